// The vector code: one table of functions for each instruction set, chosen at run time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace crf {

// Values of lattice vertices, a row for each. The row of vertex v is at v & ring.
struct RowsView {
    float* values;  // (rows, labels)
    uint32_t ring;
};

// One kernel of the energy during a pass.
struct KernelView {
    const uint32_t* vertex;     // (pixels, corners) vertices around each pixel; null where the kernel is absent
    const float* slice_weight;  // (pixels, corners)
    const float* splat_weight;  // (pixels, corners)
    RowsView sliced;            // blurred values of the last iteration
    RowsView splatted;          // sums for the next iteration
    bool far;                   // its values do not fit the processor's cache
};

// A step of a blur from ring to ring.
struct BlurStep {
    const uint32_t *before, *after;  // (vertices) where in `from` the neighbours along the axis are
    RowsView from, to;
};

// Logits between grid points: a pixel reads the grid at (row[y] + row_share[y], column[x] + share[x]).
struct GridView {
    const float* values;  // (rows, columns, labels)
    int columns;
    const uint32_t* row;     // (height) grid row at or above a pixel
    const float* row_share;  // (height) in [0, 1), how far the pixel is on its way to the next row
    const uint32_t* column;  // (width) grid column at or left of a pixel
    const float* share;      // (width) in [0, 1), how far the pixel is on its way to the next column
};

// A run of pixels and their log probabilities: interpolated where `grid` is given, otherwise `stored`.
struct RunView {
    int labels;
    size_t first;          // number of the first pixel in the kernels' arrays
    int count;
    const GridView* grid;
    const float* grid_row;  // (columns, labels) the grid at this row of pixels
    const float* log_sum;   // (count) subtracted from the logits; null for 0
    const float* floor;     // (labels) least log probability
    const float* stored;    // (count, labels)
    float* largest;         // (labels) raised to each label's largest posterior; null where nobody asks
    const float* cost;      // (labels) factor of a label's message; null where it is 1 for all
    const float* rest;      // (labels) factor of the sum of all messages; null where it is 0 for all
};

// Where results go; arrays of the whole picture.
struct OutputView {
    uint8_t* label;         // (pixels)
    float* confidence;      // (pixels) posterior of that label
    float* posterior;       // (pixels, labels); null where nobody asks
};

struct Kernels {
    const char* name;
    // The grid at row y of the pixels: (columns, labels).
    void (*grid_row)(const GridView&, int labels, int y, float* out);
    // Log of the sum of the labels' exponentials at each pixel; raises largest[label] to its probability.
    void (*log_sums)(const RunView&, float* log_sum, float* largest);
    // log(max(in, floor)), in place if need be; returns the largest of `in` and `largest`.
    float (*logs)(const float* in, size_t count, float floor, float* out, float largest);
    // softmax(log probabilities) -> splat.
    void (*first_pass)(const RunView&, const KernelView& gaussian, const KernelView& bilateral);
    // softmax(log probabilities + slices) -> splat.
    void (*middle_pass)(const RunView&, const KernelView& gaussian, const KernelView& bilateral);
    // softmax(log probabilities + slices) -> output.
    void (*last_pass)(const RunView&, const KernelView& gaussian, const KernelView& bilateral, const OutputView&);
    // to[v] = from[v] + (from[before[v]] + from[after[v]]) / 2 for v in [first, last).
    void (*blur_step)(const BlurStep&, uint32_t first, uint32_t last, int labels);
    // rows[v] += (rows[previous] + rows[next]) / 2 along chains, in place.
    void (*blur)(const uint32_t* chain, size_t length, int labels, const RowsView& rows);
};

const Kernels& kernels();                           // the best this processor can run, or what was chosen
std::vector<const Kernels*> runnable_kernels();      // all it can run, the best first
void use_kernels(const char* name);                  // for tests; throws std::invalid_argument

constexpr int kMaxLabels = 256;
constexpr float kNever = -1e30f;  // log probability of labels that only fill a row up

// Labels in a row of values: rounded up to a number the vector code is made for.
inline int padded(int labels) { return labels <= 4 ? 4 : (labels + 7) / 8 * 8; }

}  // namespace crf
