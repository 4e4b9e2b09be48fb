// The kernel over position alone. Pixels that are near in it are near in the picture, so that a pass filters it while
// its rows go by: a vertex is blurred as soon as every pixel around it was splatted, and what is under way stays in the
// processor's cache.
#pragma once

#include <array>

#include "kernel.hpp"

namespace crf {

class Smoothing {
  public:
    // Throws std::overflow_error as build_gaussian.
    void build(const Picture& picture, float xy, float weight, bool symmetric, Table& table);
    void make_room(int labels);
    // Of the labels that it was blurred for last, keeps some.
    void keep(const std::vector<int>& kept);
    KernelView view();
    // Before row y of the pixels is splatted: zeros for the vertices that it is the first to use.
    void begin_row(int y);
    // After row y: blurs what no later row adds to, into what the next pass slices.
    void end_row(int y);
    const Kernel& kernel() const { return kernel_; }

  private:
    static constexpr int kAxes = 3;

    struct Axis {
        Buffer<uint32_t> before, after;  // (vertices) where the neighbours are in the ring; its last row where they are not
        std::vector<uint32_t> done;      // (rows + 1) vertices blurred along this axis before each row of pixels ends
    };

    void link(int axis, const std::vector<uint32_t>& ready);
    static void place_in_ring(Axis& axis, size_t ring);
    void make_room_under_way();
    RowsView ring(int axis);

    Kernel kernel_;
    std::array<Axis, kAxes> axis_;
    std::array<size_t, kAxes> ring_;     // size of what is splatted, and of what is blurred along 1 and 2 axes
    std::array<Rows, kAxes> under_way_;  // rings, each followed by a row of zeros
    Rows values_;                        // blurred
};

}  // namespace crf
