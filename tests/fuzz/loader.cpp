// The loader with any numbers: crops, scales, draws, files, places, rooms. What is out of range is refused,
// by std::invalid_argument or as the job's failure; nothing is written outside the batch.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "../native/sample_files.h"
#include "bounded.h"
#include "decoded.h"

namespace {

using namespace deeplab_fast;

constexpr int kMostSide = 96;  // of a crop: beyond it this target has no memory for the batch
constexpr uint8_t kGuard = 0xA5;
constexpr size_t kGap = 64;

// Takes values from the input, zeros behind its end.
class Input {
 public:
  Input(const uint8_t* data, size_t bytes) : data_(data), left_(bytes) {}

  template <typename T>
  T take() {
    T value{};
    const size_t count = std::min(left_, sizeof value);
    std::memcpy(&value, data_, count);
    data_ += count;
    left_ -= count;
    return value;
  }

  // Mostly a usual value, else any.
  double number(double usual) {
    return take<uint8_t>() < 200 ? usual * (take<uint8_t>() / 256.0) : take<double>();
  }
  int whole(int usual) { return take<uint8_t>() < 200 ? take<uint8_t>() % usual : take<int32_t>(); }

 private:
  const uint8_t* data_;
  size_t left_;
};

// A file in memory, which is gone with the process, however that ends.
std::string memory_file(const std::vector<uint8_t>& content) {
  const int descriptor = ::memfd_create("sample", 0);
  if (::write(descriptor, content.data(), content.size()) != static_cast<ssize_t>(content.size()))
    std::abort();
  return "/proc/self/fd/" + std::to_string(descriptor);
}

const std::vector<std::string>& files() {
  static const std::vector<std::string> paths = {memory_file(png_file(9, 14, 3, 7, 251)),
                                                 memory_file(png_file(9, 14, 1, 1, 4)),
                                                 memory_file(png_file(40, 3, 3, 5, 256)),
                                                 memory_file(png_file(40, 3, 1, 1, 256)),
                                                 memory_file({}),
                                                 "/",
                                                 "/nowhere/x"};
  return paths;
}

// Memory whose end must stay as it was.
struct Guarded {
  explicit Guarded(size_t size) : bytes(size + kGap, kGuard) {}
  ~Guarded() {
    for (size_t i = bytes.size() - kGap; i < bytes.size(); ++i) {
      if (bytes[i] != kGuard) finding("bytes behind the batch were written");
    }
  }
  std::vector<uint8_t> bytes;
};

Extract extract_of(Input& input) {
  Extract extract{input.whole(8), 0, -1, -1};
  if (input.take<uint8_t>() % 2 == 0) extract = {extract.file, input.whole(200), input.whole(200), -1};
  if (input.take<uint8_t>() % 8 == 0)
    extract = {extract.file, input.take<int64_t>(), input.take<int64_t>(), 0};
  return extract;
}

void load(Input& input) {
  const CropOptions options{input.whole(kMostSide), input.number(1.0), input.number(4.0),
                            input.take<uint8_t>() % 2 == 0, input.whole(256)};
  const DecodeRules rules{input.take<uint8_t>() % 2 == 0,
                          input.take<uint8_t>() % 4 == 0 ? input.take<int64_t>() : 1 << 16};
  const int classes = input.whole(200), threads = input.take<uint8_t>() % 3;
  Loader(files(), {}, options, classes, 0, rules);  // what it refuses needs no memory for a batch
  if (options.crop_size > kMostSide) return;
  const size_t count = 1 + input.take<uint8_t>() % 4, side = options.crop_size;
  const bool is_ragged = input.take<uint8_t>() % 3 == 0;
  const size_t room = is_ragged ? input.take<uint16_t>() : side * side;
  Guarded images(count * 3 * room), labels(count * room);
  std::vector<int32_t> extents(4 * count);
  std::vector<Sample> samples(count);
  std::vector<int> places;
  std::vector<Job> jobs;
  const std::vector<uint8_t> pixels(3 * 9 * 14, 7);
  const ColourMatrix colour = input.take<ColourMatrix>();
  for (size_t i = 0; i < count; ++i) {
    places.push_back(static_cast<int>(i));
    samples[i].image_offset = static_cast<int64_t>(3 * room * i);
    samples[i].label_offset = static_cast<int64_t>(room * i);
    samples[i].image_room = static_cast<int64_t>(3 * room);
    samples[i].label_room = static_cast<int64_t>(room);
    Job job{};
    job.image = extract_of(input);
    job.label = extract_of(input);
    job.draws = {input.number(1.0), input.number(1.0), input.number(1.0), input.number(1.0)};
    if (input.take<uint8_t>() % 3 == 0) job.colour = &colour;
    if (input.take<uint8_t>() % 4 == 0) job.decoded = {pixels.data(), 9, 14};
    jobs.push_back(job);
  }
  if (input.take<uint8_t>() % 16 == 0) places.pop_back();
  if (input.take<uint8_t>() % 16 == 0) places[0] = -1;
  const Target target{images.bytes.data(), labels.bytes.data(), extents.data(),
                      is_ragged ? samples.data() : nullptr};
  Loader loader(files(), {}, options, classes, threads, rules);  // behind its memory, which must outlive it
  const int64_t ticket = loader.submit(jobs, places, target);
  if (input.take<uint8_t>() % 4 == 0) return;  // the loader ends in mid-work
  std::vector<Failure> failures;
  while (!loader.wait(ticket, 1.0, &failures)) {
  }
  for (const Failure& failure : failures) {
    if (failure.text.empty()) finding("a failure without words");
  }
  if (!is_ragged) return;
  std::vector<uint8_t> crops(3 * side * side * count), crop_labels(side * side * count);
  if (failures.empty()) {
    augment_ragged(images.bytes.data(), labels.bytes.data(), samples.data(), static_cast<int>(count), options,
                   crops.data(), crop_labels.data(), extents.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  files();
  const Bounded bounded(4.0, 64);
  Input input(data, bytes);
  try {
    load(input);
  } catch (const std::invalid_argument&) {
  }
  return 0;
}
