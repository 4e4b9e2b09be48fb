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
    float prune;     // labels nowhere as probable take no part; unless 0, labels that hardly meet share a column
};

// What became of the picture.
struct Result {
    Columns columns;           // the labels that took part, by the column that they had in the end
    int row;                   // padded(columns), floats in a row of `posterior`
    Buffer<uint8_t> label;     // (pixels)
    Buffer<float> confidence;  // (pixels) posterior of the label
    Buffer<float> posterior;   // (pixels, row) of the columns, where asked for
};

// Works on one picture at a time, in memory that it keeps for the next.
class MeanField {
  public:
    // Refines `grid` over `picture`. Throws std::overflow_error where the picture spans too many standard deviations.
    const Result& run(const Picture& picture, Grid& grid, const Parameters& parameters, bool want_posterior);

    // Of the last picture: columns that labels had in the end, and vertices of both lattices.
    size_t columns() const { return result_.columns.size(); }
    size_t vertices() const { return gaussian_.kernel().lattice.vertices + bilateral_.lattice.vertices; }

  private:
    void place_columns(const Picture& picture, const Grid& grid);
    void choose_labels(const Picture& picture, Grid& grid, float prune);
    void set_floor();
    // Goes on with columns of those that there are.
    void set_columns(const Grid& grid, const Columns& columns);
    // Between two iterations: joins columns whose labels hardly meet.
    void share_columns(const Picture& picture, const Grid& grid, int samples);
    void join_logs(const Picture& picture, const Grid& grid);
    void build_kernels(const Picture& picture, const Parameters& parameters);
    OutputView make_room_for_output(size_t pixels, bool want_posterior);
    void iterate(const Picture& picture, const Grid& grid, const Parameters& parameters);
    void finish(const Picture& picture, const OutputView& output);
    // Turns columns into labels.
    void name_labels(const Picture& picture, const Grid& grid);
    KernelView gaussian() { return with_gaussian_ ? gaussian_.view() : KernelView{}; }
    KernelView bilateral() { return with_bilateral_ ? bilateral_.view() : KernelView{}; }
    template <class Pass>
    void for_each_row(const Picture& picture, Pass pass);

    GridView grid_{};
    std::vector<uint32_t> column_;
    std::vector<float> share_, grid_row_, floor_, meeting_;
    Buffer<float> kept_grid_, log_sum_;
    SharedView shared_{};
    std::vector<uint8_t> shared_labels_, shared_columns_;
    Buffer<float> joined_;  // (pixels, shared_.row) log probabilities of shared columns, with room around them
    Table table_;
    Smoothing gaussian_;
    Kernel bilateral_;
    bool with_gaussian_ = false, with_bilateral_ = false;
    std::vector<float> gaussian_is_for_;  // size and parameters that gaussian_ was built for
    Result result_;
};

}  // namespace crf
