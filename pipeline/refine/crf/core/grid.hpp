// The logits or probabilities of a picture's labels, in the order in which the mean field reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "buffer.hpp"

namespace crf {

// A (labels, rows, columns) array of any float type and any strides.
struct FloatArray {
    enum class Type { kHalf, kSingle, kDouble };

    Type type;
    int labels, rows, columns;
    const char* data;
    ptrdiff_t label_stride, row_stride, column_stride;  // bytes

    // The columns of one row as floats.
    void read(int label, int row, float* out) const;
};

// Log probabilities, up to a constant for each pixel, at the points of a grid over the picture.
struct Grid {
    int labels, rows, columns;
    int stride;                  // pixels between grid points; 1 for one at every pixel
    int top, left;               // the picture's first pixel, counted from grid point (0, 0)
    bool normalized;             // they are log probabilities, and `largest` is known
    Buffer<float> values;        // (rows, columns, padded(labels)), kNever beyond the labels
    std::vector<float> largest;  // (labels) largest probability anywhere

    // Logits at every `stride`th pixel.
    void take_logits(const FloatArray& logits, int stride, int top, int left);
    // Probabilities of every pixel, none of them taken to be below `floor`.
    void take_probabilities(const FloatArray& probabilities, float floor);

  private:
    void make_room(const FloatArray& array);
    // Row y of `values` from `lines_`.
    void put_row(int y);

    std::vector<float> lines_;  // (labels, columns) of one row
};

}  // namespace crf
