// The logits or probabilities of a picture's labels, in the order in which the mean field reads them.
#pragma once

#include <algorithm>
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

// Where pixels lie on a grid along an axis: pixel y at (step * y + offset) / unit, clamped to the points that there are.
struct Axis {
    int64_t step, offset, unit;

    // The point at or before pixel `y`, of `points`, and in `share`, in [0, 1), how far on its way to the next it is.
    int place(int y, int points, float& share) const {
        const int64_t position = step * y + offset;
        const int64_t point = position >= 0 ? position / unit : -1;
        share = point >= 0 && point < points - 1 ? float(position % unit) / float(unit) : 0.0f;
        return int(std::min(std::max(point, int64_t(0)), int64_t(points - 1)));
    }
};

// Log probabilities, up to a constant for each pixel, at the points of a grid over the picture.
struct Grid {
    int labels, rows, columns;
    Axis down, along;            // where the picture's rows and columns lie on it
    bool normalized;             // they are log probabilities, and `largest` is known
    Buffer<float> values;        // (rows, columns, padded(labels)), kNever beyond the labels
    std::vector<float> largest;  // (labels) largest probability anywhere

    // Logits at the points of a grid.
    void take_logits(const FloatArray& logits, const Axis& down, const Axis& along);
    // Probabilities of every pixel, none of them taken to be below `floor`.
    void take_probabilities(const FloatArray& probabilities, float floor);

  private:
    void make_room(const FloatArray& array);
    // Row y of `values` from `lines_`.
    void put_row(int y);

    std::vector<float> lines_;  // (labels, columns) of one row
};

}  // namespace crf
