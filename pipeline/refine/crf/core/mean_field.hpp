// Mean field of the fully connected CRF (Krähenbühl and Koltun 2011) over permutohedral lattices, on one thread.
#pragma once

#include <vector>

#include "grid.hpp"
#include "kernel.hpp"
#include "smoothing.hpp"

namespace crf {

constexpr float kFloor = 1e-5f;  // no label is taken to be less probable

struct Parameters {
    int iterations;
    float gaussian_weight, gaussian_xy;
    float bilateral_weight, bilateral_xy, bilateral_rgb;
    bool symmetric;  // normalisation on both sides of a kernel; otherwise after it
    float prune;     // labels nowhere as probable take no part; twice that on the way
    std::vector<float> label_costs;  // of each label; empty where all cost 1
};

// What became of the picture. Labels are numbered as in `kept`.
struct Result {
    std::vector<int> kept;     // the labels that took part to the end, ascending
    int labels;                // padded(kept), floats in a row of `posterior`
    Buffer<uint8_t> label;     // (pixels)
    Buffer<float> confidence;  // (pixels) posterior of the label
    Buffer<float> posterior;   // (pixels, labels), where asked for
};

// Works on one picture at a time, in memory that it keeps for the next.
class MeanField {
  public:
    // Refines `grid` over `picture`. Throws std::overflow_error where the picture spans too many standard deviations.
    const Result& run(const Picture& picture, Grid& grid, const Parameters& parameters, bool want_posterior);

    // Of both lattices, for the last picture.
    size_t vertices() const { return gaussian_.kernel().lattice.vertices + bilateral_.lattice.vertices; }

  private:
    void place_pixels(const Picture& picture, const Grid& grid);
    void choose_labels(const Picture& picture, Grid& grid, float prune);
    void keep(const Grid& grid, const std::vector<int>& kept);
    // Between two iterations: goes on without the labels that were nowhere as probable in the last.
    void drop_labels(const Grid& grid, float least);
    // The costs of the labels that are kept, as the passes take them.
    void place_costs();
    void build_kernels(const Picture& picture, const Parameters& parameters);
    OutputView make_room_for_output(size_t pixels, bool want_posterior);
    void iterate(const Picture& picture, const Grid& grid, const Parameters& parameters);
    void finish(const Picture& picture, const OutputView& output);
    KernelView gaussian() { return with_gaussian_ ? gaussian_.view() : KernelView{}; }
    KernelView bilateral() { return with_bilateral_ ? bilateral_.view() : KernelView{}; }
    template <class Pass>
    void for_each_row(const Picture& picture, Pass pass);

    GridView grid_{};
    std::vector<uint32_t> row_, column_;
    std::vector<float> row_share_, share_, grid_row_, floor_, largest_, label_costs_, cost_, rest_;
    Buffer<float> kept_grid_, log_sum_;
    Table table_;
    Smoothing gaussian_;
    Kernel bilateral_;
    bool with_gaussian_ = false, with_bilateral_ = false;
    std::vector<float> gaussian_is_for_;  // size and parameters that gaussian_ was built for
    Result result_;
};

}  // namespace crf
