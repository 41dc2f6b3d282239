// Counting pairs of bytes, for a confusion matrix.
#pragma once

#include <stdint.h>

#include <vector>

namespace deeplab_fast {

// Label maps are mostly flat: of 64 neighbouring pairs few are different, so all that equal the first are
// counted at once, then all that equal the first of the others. Without AVX2 only whole stretches of equal
// pairs are. The rest goes to several private histograms, because counting twice in a row in one cell waits
// for the first count to be stored. One object a thread.
class ByteCounter {
 public:
  ByteCounter(int classes, int64_t ignore_label);

  // Whether all pairs were in range.
  bool add(const uint8_t* labels, const uint8_t* predictions, int64_t pixels);
  // Adds what was counted to `counts` [classes, classes]. Call once.
  void add_to(int64_t* counts) const;

 private:
  bool add_runs(const uint8_t* labels, const uint8_t* predictions, int64_t pixels);
  bool add_blocks(const uint8_t* labels, const uint8_t* predictions, int64_t pixels);
  bool add_equal(uint8_t label, uint8_t prediction, int64_t pixels);
  bool one_by_one(const uint8_t* labels, const uint8_t* predictions, int64_t pixels);

  const int classes_;
  const int64_t ignore_label_;
  std::vector<int64_t> histograms_;
  const bool has_blocks_;
};

}  // namespace deeplab_fast
