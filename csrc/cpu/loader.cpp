// The thread pool behind training: bytes -> decode -> augment -> a batch in the caller's memory.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>

#include "../api.h"
#include "files.h"

namespace deeplab_fast {
namespace {

using Clock = std::chrono::steady_clock;

// A job that cannot be done, and whose fault it is.
struct Refused {
  Fault fault;
  std::string text;
};

struct Batch {
  std::vector<Job> jobs;
  std::vector<ColourMatrix> colours;
  std::vector<int> places;  // of the jobs in the target
  Target target;
  size_t unfinished = 0;
  std::vector<Failure> failures;
};

struct Task {
  std::shared_ptr<Batch> batch;
  size_t job;
};

// What one thread keeps between jobs.
struct Worker {
  explicit Worker(const DecodeRules& rules)
      : image_decoder(make_image_decoder(rules)), label_decoder(make_label_decoder(rules)) {}

  std::unique_ptr<Decoder> image_decoder, label_decoder;
  std::vector<uint8_t> image_file, label_file, image_pixels, label_pixels;
  AugmentScratch scratch;
};

// Gives the pixels of an image that the caller decoded.
class GivenPixels : public Decoder {
 public:
  explicit GivenPixels(const DecodedImage& image) : image_(image) {}

  Size open(const uint8_t*, size_t) override { return {image_.height, image_.width}; }

  void read(const Window& window, uint8_t* out, ptrdiff_t stride) override {
    const size_t columns = 3 * static_cast<size_t>(window.right - window.left);
    for (int y = window.top; y < window.bottom; ++y, out += stride) {
      std::memcpy(out, image_.pixels + 3 * (static_cast<size_t>(y) * image_.width + window.left), columns);
    }
  }

 private:
  const DecodedImage image_;
};

Window whole(const Size& size) { return {0, size.height, 0, size.width}; }

std::string by(const Size& size) { return std::to_string(size.width) + "x" + std::to_string(size.height); }

std::string as_hex(uint32_t value) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", static_cast<unsigned>(value));
  return text;
}

constexpr int kMostSide = 1 << 24;  // of a crop, and of an image once it is resized

bool is_share(double draw) { return 0.0 <= draw && draw < 1.0; }  // not so for NaN

void expect(bool is_so, const char* what) {
  if (!is_so) throw std::invalid_argument(std::string("loader: ") + what);
}

const CropOptions& checked(const CropOptions& options) {
  expect(0 < options.crop_size && options.crop_size <= kMostSide, "the crop's size is out of range");
  expect(
      0.0 < options.min_scale && options.min_scale <= options.max_scale && std::isfinite(options.max_scale),
      "the scales are no range of positive numbers");
  return options;
}

const DecodeRules& checked(const DecodeRules& rules) {
  expect(0 < rules.max_pixels && rules.max_pixels <= int64_t{1} << 40, "max_pixels is out of range");
  return rules;
}

// Whether no sum over a pixel overflows.
bool is_bounded(const ColourMatrix& colour) {
  const auto within = [](int32_t value, int32_t most) { return -most <= value && value <= most; };
  return std::all_of(std::begin(colour.value), std::end(colour.value), [&](const int32_t (&row)[4]) {
    return within(row[0], 1 << 20) && within(row[1], 1 << 20) && within(row[2], 1 << 20) &&
           within(row[3], 1 << 28);
  });
}

void check_job(const Job& job, size_t files) {
  const auto is_there = [&](const Extract& e) { return 0 <= e.file && static_cast<size_t>(e.file) < files; };
  const bool is_given = job.decoded.pixels != nullptr;
  expect(is_there(job.label) && (is_given || is_there(job.image)), "a job names a file that is none");
  expect(!is_given || (job.decoded.height > 0 && job.decoded.width > 0), "an image without pixels");
  expect(job.label.offset >= 0 && (is_given || job.image.offset >= 0), "an offset below 0");
  expect(is_share(job.draws.scale) && is_share(job.draws.top) && is_share(job.draws.left),
         "a draw is not in [0, 1)");
  expect(job.colour == nullptr || is_bounded(*job.colour), "a colour is changed by too much");
}

// The first value that is neither a class nor the ignore label, or -1.
int first_out_of_range(const uint8_t* label, size_t pixels, int classes, int ignore_label) {
  unsigned wrong = 0;
  for (size_t i = 0; i < pixels; ++i) wrong |= (label[i] >= classes) & (label[i] != ignore_label);
  if (wrong == 0) return -1;
  const uint8_t* found =
      std::find_if(label, label + pixels, [&](uint8_t v) { return v >= classes && v != ignore_label; });
  return *found;
}

}  // namespace

struct Loader::State {
  State(std::vector<std::string> paths, const std::vector<Stamp>& stamps, const CropOptions& r,
        int class_count, const DecodeRules& d)
      : files(std::move(paths), stamps),
        options(checked(r)),
        classes(class_count),
        rules(checked(d)),
        own(d) {
    expect(0 < classes && classes <= 256, "expected 1 to 256 classes");
  }

  Bytes bytes_of(const Extract& extract, std::vector<uint8_t>* buffer);
  void run(Worker& worker, const Batch& batch, size_t job);
  bool run_next(Worker& worker, std::unique_lock<std::mutex>& lock);
  void work(Worker& worker);

  OpenFiles files;
  const CropOptions options;
  const int classes;
  const DecodeRules rules;

  std::mutex mutex;  // guards what follows
  std::condition_variable has_task, has_result;
  std::deque<Task> tasks;
  std::map<int64_t, std::shared_ptr<Batch>> batches;
  int64_t next_ticket = 0;
  bool stopping = false;

  std::deque<Worker> workers;  // of the threads, one each
  std::vector<std::thread> threads;
  Worker own;  // of the calling thread, where there are no others
  std::atomic<int64_t> read_ns{0}, image_ns{0}, label_ns{0}, augment_ns{0};
};

// Errors have the words of deeplab_fast/data/records/read.py.
Bytes Loader::State::bytes_of(const Extract& extract, std::vector<uint8_t>* buffer) {
  if (extract.size < 0) return read_file(files.path(extract.file), rules.max_bytes(), buffer);
  const std::shared_ptr<const OpenFile> file = files.get(extract.file);
  const Bytes bytes =
      file->read(extract.offset, static_cast<size_t>(extract.size), rules.max_bytes(), buffer);
  if (extract.checksum < 0) {
    if (!files.is_unchanged(extract.file, *file)) {
      throw std::runtime_error("the shard was written to while it was in use");
    }
  } else if (const uint32_t found = crc32(bytes.data, bytes.size); found != extract.checksum) {
    throw std::runtime_error(
        "checksum " + as_hex(found) + "; its index says " + as_hex(static_cast<uint32_t>(extract.checksum)) +
        ": damaged, or replaced since. Run prepare records again; where another tool wrote the"
        " shard, delete its .idx");
  }
  return bytes;
}

// Throws Refused, or std::bad_alloc.
void Loader::State::run(Worker& worker, const Batch& batch, size_t job_index) {
  const Job& job = batch.jobs[job_index];
  const Target& target = batch.target;
  const int place = batch.places[job_index];
  Fault stage = Fault::image;
  const auto start = Clock::now();
  auto read = start, decoded_image = start, decoded_label = start;
  try {
    GivenPixels given(job.decoded);
    const bool is_given = job.decoded.pixels != nullptr;
    Decoder& image_decoder = is_given ? given : *worker.image_decoder;
    const Bytes image_bytes = is_given ? Bytes{} : bytes_of(job.image, &worker.image_file);
    stage = Fault::label;
    const Bytes label_bytes = bytes_of(job.label, &worker.label_file);
    read = Clock::now();

    stage = Fault::image;
    const Size size = image_decoder.open(image_bytes.data, image_bytes.size);
    stage = Fault::label;
    const Size label_size = worker.label_decoder->open(label_bytes.data, label_bytes.size);
    if (size.height != label_size.height || size.width != label_size.width) {
      throw Refused{Fault::size, by(label_size) + " pixels; expected " + by(size) + " as its image"};
    }
    if (options.max_scale * std::max(size.height, size.width) > kMostSide) {
      throw std::runtime_error("too large once it is resized: " + by(size) + " pixels");
    }
    Sample sample{};
    sample.crop = choose_crop(size.height, size.width, job.draws, options);
    sample.image = source_window(sample.crop, false);
    sample.label = source_window(sample.crop, true);
    sample.has_colour = job.colour != nullptr;
    if (job.colour != nullptr) sample.colour = *job.colour;
    const size_t image_width = sample.image.right - sample.image.left, image_stride = 3 * image_width;
    uint8_t* image_pixels;
    if (target.samples != nullptr) {
      const Sample& given = target.samples[place];
      sample.image_offset = given.image_offset;
      sample.label_offset = given.label_offset;
      sample.image_room = given.image_room;
      sample.label_room = given.label_room;
      const int64_t label_bytes_needed =
          int64_t{sample.label.bottom - sample.label.top} * (sample.label.right - sample.label.left);
      if (static_cast<int64_t>(image_stride) * (sample.image.bottom - sample.image.top) > sample.image_room ||
          label_bytes_needed > sample.label_room) {
        throw std::logic_error("the batch has too little room for this sample's pixels");
      }
      image_pixels = target.images + sample.image_offset;
    } else {
      worker.image_pixels.resize(image_stride * (sample.image.bottom - sample.image.top));
      image_pixels = worker.image_pixels.data();
    }
    stage = Fault::image;
    image_decoder.read(sample.image, image_pixels, image_stride);
    decoded_image = Clock::now();

    // The whole label, whatever the crop keeps: a wrong value must not be found in some epochs only.
    stage = Fault::label;
    worker.label_pixels.resize(static_cast<size_t>(size.height) * size.width);
    worker.label_decoder->read(whole(size), worker.label_pixels.data(), size.width);
    const int wrong = first_out_of_range(worker.label_pixels.data(), worker.label_pixels.size(), classes,
                                         options.ignore_label);
    if (wrong >= 0) throw Refused{Fault::value, std::to_string(wrong)};
    decoded_label = Clock::now();

    const size_t side = options.crop_size;
    if (target.samples != nullptr) {
      target.samples[place] = sample;
      const int columns = sample.label.right - sample.label.left;
      uint8_t* out = target.labels + sample.label_offset;
      for (int y = sample.label.top; y < sample.label.bottom; ++y, out += columns) {
        const size_t from = static_cast<size_t>(y) * size.width + sample.label.left;
        std::memcpy(out, worker.label_pixels.data() + from, columns);
      }
    } else {
      const Pixels image{image_pixels, static_cast<ptrdiff_t>(image_stride), sample.image};
      const Pixels label{worker.label_pixels.data(), size.width, whole(size)};
      augment(image, label, sample.crop, options, job.colour, worker.scratch,
              target.images + place * 3 * side * side, target.labels + place * side * side);
    }
    if (target.extents != nullptr) write_extent(sample.crop, target.extents + 4 * place);
  } catch (const std::bad_alloc&) {  // says nothing of the sample
    throw;
  } catch (const std::exception& error) {
    throw Refused{stage, error.what()};
  }
  const auto end = Clock::now();
  read_ns += (read - start).count();
  image_ns += (decoded_image - read).count();
  label_ns += (decoded_label - decoded_image).count();
  augment_ns += (end - decoded_label).count();
}

// Does the first waiting task, with the lock released meanwhile; false where there is none. Throws nothing:
// in a thread that would end the process. So no memory is taken for a failure (`submit` did).
bool Loader::State::run_next(Worker& worker, std::unique_lock<std::mutex>& lock) {
  if (tasks.empty()) return false;
  const Task task = std::move(tasks.front());
  tasks.pop_front();
  lock.unlock();
  Failure failure{task.batch->places[task.job], Fault::memory, {}};
  bool failed = true;
  try {
    run(worker, *task.batch, task.job);
    failed = false;
  } catch (Refused& refused) {
    failure.fault = refused.fault;
    failure.text = std::move(refused.text);
  } catch (const std::bad_alloc&) {
  }
  lock.lock();
  if (failed) task.batch->failures.push_back(std::move(failure));
  if (--task.batch->unfinished == 0) has_result.notify_all();
  return true;
}

void Loader::State::work(Worker& worker) {
  std::unique_lock<std::mutex> lock(mutex);
  while (!stopping) {
    if (!run_next(worker, lock)) has_task.wait(lock);
  }
}

Loader::Loader(std::vector<std::string> files, const std::vector<Stamp>& stamps, const CropOptions& options,
               int classes, int threads, const DecodeRules& rules)
    : state_(std::make_unique<State>(std::move(files), stamps, options, classes, rules)) {
  try {
    for (int i = 0; i < threads; ++i) state_->workers.emplace_back(rules);  // here, where an error is caught
    for (Worker& worker : state_->workers) {
      state_->threads.emplace_back([state = state_.get(), &worker] { state->work(worker); });
    }
  } catch (...) {  // the system has no more threads: those that are there must be joined
    stop();
    throw;
  }
}

Loader::~Loader() { stop(); }

void Loader::stop() {
  {
    const std::lock_guard<std::mutex> guard(state_->mutex);
    state_->stopping = true;
    state_->tasks.clear();
  }
  state_->has_task.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

int64_t Loader::submit(const std::vector<Job>& jobs, const std::vector<int>& places, const Target& target) {
  expect(places.size() == jobs.size(), "expected a place for each job");
  expect(std::all_of(places.begin(), places.end(), [](int place) { return place >= 0; }), "a place below 0");
  expect(target.images != nullptr && target.labels != nullptr, "no memory to write to");
  for (const Job& job : jobs) check_job(job, state_->files.count());
  auto batch = std::make_shared<Batch>();
  batch->jobs = jobs;
  batch->places = places;
  batch->target = target;
  batch->unfinished = jobs.size();
  batch->failures.reserve(jobs.size());
  batch->colours.reserve(jobs.size());
  for (Job& job : batch->jobs) {
    if (job.colour == nullptr) continue;
    batch->colours.push_back(*job.colour);
    job.colour = &batch->colours.back();
  }
  int64_t ticket;
  {
    const std::lock_guard<std::mutex> guard(state_->mutex);
    ticket = state_->next_ticket++;
    const size_t before = state_->tasks.size();
    try {
      for (size_t i = 0; i < jobs.size(); ++i) state_->tasks.push_back({batch, i});
      state_->batches[ticket] = batch;
    } catch (...) {  // the caller keeps no memory for them
      while (state_->tasks.size() > before) state_->tasks.pop_back();
      throw;
    }
  }
  state_->has_task.notify_all();
  return ticket;
}

bool Loader::done(int64_t ticket) {
  const std::lock_guard<std::mutex> guard(state_->mutex);
  return state_->batches.at(ticket)->unfinished == 0;
}

bool Loader::wait(int64_t ticket, double seconds, std::vector<Failure>* failures) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  const std::shared_ptr<Batch> batch = state_->batches.at(ticket);
  const auto finished = [&] { return batch->unfinished == 0; };
  if (state_->threads.empty()) {
    while (!finished() && state_->run_next(state_->own, lock)) {
    }
  }
  if (!state_->has_result.wait_for(lock, std::chrono::duration<double>(seconds), finished)) return false;
  std::sort(batch->failures.begin(), batch->failures.end(),
            [](const Failure& a, const Failure& b) { return a.index < b.index; });
  *failures = std::move(batch->failures);
  state_->batches.erase(ticket);
  return true;
}

Spent Loader::spent() const {
  const auto seconds = [](const std::atomic<int64_t>& ns) { return 1e-9 * static_cast<double>(ns.load()); };
  return {seconds(state_->read_ns), seconds(state_->image_ns), seconds(state_->label_ns),
          seconds(state_->augment_ns)};
}

}  // namespace deeplab_fast
