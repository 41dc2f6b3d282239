// The two inner loops of resampling, chosen once by what the processor can do.
#pragma once

#include "../api.h"

namespace deeplab_fast {

// Words that a row of column sums must have beyond its last value: vector loops read them, and ignore them.
constexpr int kRowSlack = 64;

struct RowLoops {
  const char* name;
  // out[i] = the column sum of rows[0..3][i], for `values` bytes.
  void (*sum_columns)(const uint8_t* const rows[4], const int16_t weight[4], bool bicubic, int values,
                      int16_t* out);
  // Prepares the plan from its first three fields.
  void (*plan_row)(RowPlan& plan);
  // out[i] for all of the plan's outputs, from a row of column sums.
  void (*sum_row)(const RowPlan& plan, const int16_t* sums, uint8_t* out);
  // out[i] = row[index[i]]; `index` never falls, or never rises.
  void (*pick)(const uint8_t* row, int row_bytes, const int32_t* index, int count, uint8_t* out);
};

const RowLoops& row_loops();

}  // namespace deeplab_fast
