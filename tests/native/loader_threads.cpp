// The loader's thread pool without Python, for the thread sanitizer: several loaders at once, tickets waited
// for in any order, failures, an end in mid-work; and the threads of parallel_for. Ends with 1 where a batch
// is not what one thread makes of it.
#include <sys/stat.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>

#include "../../csrc/api.h"
#include "../../csrc/cpu/parallel_for.h"
#include "sample_files.h"

namespace deeplab_fast {
namespace {

constexpr int kSide = 33, kClasses = 5, kBatch = 6, kFiles = 300;  // more files than the loader keeps open

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

struct Crops {
  std::vector<uint8_t> images = std::vector<uint8_t>(kBatch * 3 * kSide * kSide);
  std::vector<uint8_t> labels = std::vector<uint8_t>(kBatch * kSide * kSide);
  std::vector<int32_t> extents = std::vector<int32_t>(kBatch * 4);

  Target target() { return {images.data(), labels.data(), extents.data(), nullptr}; }
  bool operator==(const Crops& other) const {
    return images == other.images && labels == other.labels && extents == other.extents;
  }
};

struct Samples {
  std::vector<std::string> files;  // of each sample the image, then the label
  std::vector<int64_t> sizes;
};

Samples make_samples() {
  const std::string folder = make_folder();
  Samples samples;
  for (int i = 0; i < kFiles; ++i) {
    const int height = 20 + i % 7, width = 24 + i % 5;
    std::vector<uint8_t> image = png_file(height, width, 3, 7 + i, 251);
    std::vector<uint8_t> label = png_file(height, width, 1, 1 + i % 3, kClasses);
    if (i % 10 == 3) image.resize(image.size() / 2);                       // damaged
    if (i % 10 == 6) label = png_file(height, width, 1, 1, 256);           // values that are no classes
    if (i % 10 == 9) label = png_file(height + 1, width, 1, 1, kClasses);  // of another size
    for (const auto& [content, suffix] : {std::pair{image, ".image"}, std::pair{label, ".label"}}) {
      samples.files.push_back(write_file(folder + "/" + std::to_string(i) + suffix, content));
      samples.sizes.push_back(static_cast<int64_t>(content.size()));
    }
  }
  return samples;
}

// Batch `number`; half of them read parts of files, which then stay open, and one of its jobs a file that is
// not there.
std::vector<Job> make_jobs(const Samples& samples, int number, const ColourMatrix* colour) {
  std::minstd_rand random(number + 1);
  std::vector<Job> jobs;
  for (int i = 0; i < kBatch; ++i) {
    const int32_t sample = static_cast<int32_t>(random() % kFiles);
    const auto extract = [&](int32_t file) {
      return number % 2 == 0 ? Extract{file, 0, -1, -1} : Extract{file, 0, samples.sizes[file], -1};
    };
    const auto draw = [&] { return random() % 1000 / 1000.0; };
    jobs.push_back(
        {extract(2 * sample), extract(2 * sample + 1), {draw(), draw(), draw(), draw()}, colour, {}});
  }
  if (number % 5 == 4) jobs[2].label.file = 2 * kFiles;
  return jobs;
}

std::unique_ptr<Loader> make_loader(const Samples& samples, int threads) {
  std::vector<std::string> files = samples.files;
  files.push_back("/nowhere/x");
  return std::make_unique<Loader>(files, std::vector<Stamp>{}, CropOptions{kSide, 0.5, 2.0, true, 255},
                                  kClasses, threads);
}

const std::vector<int> kPlaces = {3, 0, 5, 1, 4, 2};

// One after the other, by the calling thread.
void load_alone(const Samples& samples, int count, std::vector<Crops>* batches,
                std::vector<std::vector<Failure>>* failures) {
  const auto loader = make_loader(samples, 0);
  batches->resize(count);
  failures->resize(count);
  for (int i = 0; i < count; ++i) {
    const ColourMatrix colour{};
    const int64_t ticket = loader->submit(make_jobs(samples, i, i % 3 == 0 ? &colour : nullptr), kPlaces,
                                          (*batches)[i].target());
    if (!loader->wait(ticket, 0.0, &(*failures)[i])) fail("a loader without threads did not finish");
  }
}

bool equal(const std::vector<Failure>& a, const std::vector<Failure>& b) {
  const auto same = [](const Failure& x, const Failure& y) {
    return x.index == y.index && x.fault == y.fault && x.text == y.text;
  };
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), same);
}

// Two threads submit to one loader and wait, newest first, while a third asks how far it is.
void load_together(const Samples& samples, int threads, int count, const std::vector<Crops>& expected,
                   const std::vector<std::vector<Failure>>& expected_failures) {
  const auto loader = make_loader(samples, threads);
  std::atomic<bool> ended{false};
  std::thread asking([&] {
    while (!ended) {
      if (loader->spent().read < 0.0) fail("a time below 0");
      std::this_thread::yield();
    }
  });
  std::vector<Crops> batches(count);
  const auto consume = [&](int first) {
    std::vector<std::pair<int, int64_t>> tickets;
    for (int i = first; i < count; i += 2) {
      const ColourMatrix colour{};
      const auto jobs = make_jobs(samples, i, i % 3 == 0 ? &colour : nullptr);
      tickets.push_back({i, loader->submit(jobs, kPlaces, batches[i].target())});
    }
    for (; !tickets.empty(); tickets.pop_back()) {
      const auto [i, ticket] = tickets.back();
      std::vector<Failure> failures;
      loader->done(ticket);
      while (!loader->wait(ticket, 0.001, &failures)) {
      }
      if (!equal(failures, expected_failures[i]))
        fail("other failures than alone, of batch " + std::to_string(i));
    }
  };
  std::thread other(consume, 1);
  consume(0);
  other.join();
  ended = true;
  asking.join();
  for (int i = 0; i < count; ++i) {
    if (!(batches[i] == expected[i])) fail("other pixels than alone, in batch " + std::to_string(i));
  }
}

// The loader ends with work that is waiting, begun and done; its memory is freed at once.
void end_in_mid_work(const Samples& samples, int threads, int round) {
  std::vector<Crops> batches(8);
  const auto loader = make_loader(samples, threads);
  int64_t first = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    const int64_t ticket =
        loader->submit(make_jobs(samples, static_cast<int>(i), nullptr), kPlaces, batches[i].target());
    if (i == 0) first = ticket;
  }
  std::vector<Failure> failures;
  if (round % 2 == 0) loader->wait(first, 0.001 * round, &failures);
}

void refuse_bad_numbers(const Samples& samples) {
  const auto loader = make_loader(samples, 2);
  Crops crops;
  const auto refuses = [&](const std::vector<Job>& jobs, const std::vector<int>& places,
                           const Target& target) {
    try {
      loader->submit(jobs, places, target);
    } catch (const std::invalid_argument&) {
      return;
    }
    fail("numbers out of range were taken");
  };
  std::vector<Job> jobs = make_jobs(samples, 0, nullptr);
  refuses(jobs, {0}, crops.target());
  refuses(jobs, {0, 1, 2, 3, 4, -1}, crops.target());
  refuses(jobs, kPlaces, Target{});
  jobs[1].image.file = 2 * kFiles + 1;
  refuses(jobs, kPlaces, crops.target());
  for (Extract Job::* part : {&Job::image, &Job::label}) {
    jobs = make_jobs(samples, 0, nullptr);
    jobs[1].*part = {(jobs[1].*part).file, -int64_t{1} << 40, int64_t{1} << 30, -1};
    refuses(jobs, kPlaces, crops.target());
  }
  for (const CropOptions& options :
       {CropOptions{0, 1.0, 1.0, true, 255}, CropOptions{9, 2.0, 1.0, true, 255}}) {
    try {
      Loader(samples.files, {}, options, kClasses, 2);
      fail("options out of range were taken");
    } catch (const std::invalid_argument&) {
    }
  }
}

void work_in_parallel() {
  for (int round = 0; round < 50; ++round) {
    std::vector<int64_t> done(200);
    parallel_for(200, 4, [&](int, int64_t unit) { done[unit] += unit; });
    for (int64_t i = 0; i < 200; ++i) {
      if (done[i] != i) fail("a unit was not done once");
    }
    try {
      parallel_for(200, 4, [&](int, int64_t unit) {
        if (unit % 7 == 3) throw std::runtime_error("unit " + std::to_string(unit));
      });
      fail("an exception was lost");
    } catch (const std::runtime_error&) {
    }
  }
}

void upsample_in_parallel() {
  const UpsampleShape shape{3, 9, 7, 21, 65, 49, true};
  std::vector<float> logits(3 * 9 * 7 * 21), one(logits.size()), four(logits.size());
  std::vector<uint8_t> labels(3 * 65 * 49);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 13) - 6.0f;
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<uint8_t>(i % 22 == 21 ? 255 : i % 22);
  const Integers targets{labels.data(), Integer::uint8};
  const CrossEntropy a = upsample_ce(logits.data(), shape, targets, 255, nullptr, 0.0f, 1, one.data());
  const CrossEntropy b = upsample_ce(logits.data(), shape, targets, 255, nullptr, 0.0f, 4, four.data());
  if (a.total != b.total || one != four) fail("four threads give another gradient than one");
  const std::vector<PixelSize> extents(3, {60, 45}), sizes(3, {80, 31});
  std::vector<uint8_t> alone(3 * 80 * 31), together(alone.size());
  const std::vector<ScoresView> views = {{logits.data(), 9, 7, 65, extents.data()}};
  upsample_argmax(views, 21, sizes, true, 1, alone.data());
  upsample_argmax(views, 21, sizes, true, 4, together.data());
  if (alone != together) fail("four threads give other classes than one");
}

int run() {
  constexpr int kCount = 30;
  const Samples samples = make_samples();
  std::vector<Crops> expected;
  std::vector<std::vector<Failure>> failures;
  load_alone(samples, kCount, &expected, &failures);
  std::vector<std::thread> loaders;
  for (int threads : {1, 3}) {
    loaders.emplace_back([&, threads] { load_together(samples, threads, kCount, expected, failures); });
  }
  loaders.emplace_back([&] {
    for (int round = 0; round < 20; ++round) end_in_mid_work(samples, 1 + round % 3, round);
  });
  for (std::thread& loader : loaders) loader.join();
  refuse_bad_numbers(samples);
  work_in_parallel();
  upsample_in_parallel();
  for (const std::string& file : samples.files) std::remove(file.c_str());
  std::remove(samples.files[0].substr(0, samples.files[0].rfind('/')).c_str());
  size_t refused = 0;
  for (const auto& batch : failures) refused += batch.size();
  std::printf("%d batches, of which %zu of %d samples were refused\n", kCount, refused, kCount * kBatch);
  return 0;
}

}  // namespace
}  // namespace deeplab_fast

int main() { return deeplab_fast::run(); }
