// One kernel of the energy as the mean field filters with it: its lattice, normalised, with room for values.
#pragma once

#include "kernels.hpp"
#include "lattice.hpp"

namespace crf {

struct Kernel {
    Lattice lattice;        // weights carry the normalisation where it is symmetric
    Buffer<float> slice_weight;  // (pixels, corners); empty where it is the lattice's weight
    Buffer<float> values[2];  // (vertices, labels), blurred and splatted in turn
    Buffer<uint32_t> row;     // (pixels, corners) where each vertex's values begin, in pairs of floats

    // Splits weight and normalisation between the two sides of the filter.
    void normalize(float weight, bool symmetric);
    // Room for rows of so many labels. Throws std::overflow_error where they cannot be numbered.
    void make_room(int labels);
    // Of the `labels` that it was blurred for last, keeps some.
    void keep(const std::vector<int>& kept, int labels);
    // What a pass reads and writes; `first` is the first pixel's number.
    KernelView view();
    // Zeros the vertices that rows [y, y + 1) of pixels use first, while the processor is about to need them.
    void clear_row(int y, int labels);
    // Blurs what was splatted, and makes it what the next pass slices.
    void blur(int labels);
};

// Of `rows` of so many labels keeps those in `kept`, ascending, and fills them up to padded(kept); `to` may be `from`.
void keep_columns(const float* from, size_t rows, int labels, const std::vector<int>& kept, float filling, float* to);

// Where the rows of `labels` values of each vertex begin, in pairs of floats; row v of a ring is at v & ring.
void place_rows(const Buffer<uint32_t>& vertex, uint32_t ring, int labels, Buffer<uint32_t>& row);

// Whether rows of values have to be called for before they are read: all of them are more than a core's own cache holds.
bool is_far(const Buffer<float>& values);

}  // namespace crf
