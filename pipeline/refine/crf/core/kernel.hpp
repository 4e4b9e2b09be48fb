// One kernel of the energy as the mean field filters with it: its lattice, normalised, with room for values.
#pragma once

#include "kernels.hpp"
#include "lattice.hpp"

namespace crf {

// Values of vertices, or of those under way in a ring.
struct Rows {
    Buffer<float> values;  // (count, labels)
    size_t count = 0;
    int labels = 0;

    // What they hold is undefined.
    void make_room(size_t count, int labels);
    // Zeros rows [first, last).
    void clear(size_t first, size_t last);
    // Of the labels keeps those in `kept`, ascending.
    void keep(const std::vector<int>& kept);
    RowsView view(uint32_t ring = ~0u);
    // Whether they have to be called for before they are read: all are more than a core's own cache holds.
    bool far() const;
};

struct Kernel {
    Lattice lattice;             // weights carry the normalisation where it is symmetric
    Buffer<float> slice_weight;  // (pixels, corners); empty where it is the lattice's weight
    Rows values[2];              // of the vertices, blurred and splatted in turn

    // Splits weight and normalisation between the two sides of the filter.
    void normalize(float weight, bool symmetric);
    void make_room(int labels);
    // Of the labels that were splatted, keeps some.
    void keep(const std::vector<int>& kept);
    // What a pass reads and writes.
    KernelView view();
    // Zeros the vertices that row y of the pixels is the first to use, while the processor is about to need them.
    void clear_row(int y);
    // Blurs what was splatted, and makes it what the next pass slices.
    void blur();
};

// Of `rows` of so many labels keeps those in `kept`, ascending, and fills them up to padded(kept); `to` may be `from`.
void keep_columns(const float* from, size_t rows, int labels, const std::vector<int>& kept, float filling, float* to);

}  // namespace crf
