#include "mean_field.hpp"

#include <algorithm>
#include <cmath>

namespace crf {

const Result& MeanField::run(const Picture& picture, Grid& grid, const Parameters& p, bool want_posterior) {
    place_columns(picture, grid);
    choose_labels(picture, grid, p.prune);
    build_kernels(picture, p);
    iterate(picture, p.iterations, make_room_for_output(size_t(picture.height) * picture.width, want_posterior));
    return result_;
}

template <class Pass>
void MeanField::for_each_row(const Picture& picture, Pass pass) {
    const int labels = result_.labels;
    for (int y = 0; y < picture.height; y++) {
        const size_t first = size_t(y) * picture.width;
        RunView run{labels, first, picture.width, nullptr, nullptr, nullptr, nullptr, nullptr};
        if (log_sum_.size()) {
            kernels().grid_row(grid_, labels, y, grid_row_.data());
            run.grid = &grid_;
            run.grid_row = grid_row_.data();
            run.log_sum = log_sum_.data() + first;
            run.floor = floor_.data();
        } else {
            run.stored = grid_.values + first * labels;
        }
        pass(y, run);
    }
}

void MeanField::place_columns(const Picture& picture, const Grid& grid) {
    column_.resize(picture.width);
    share_.resize(picture.width);
    for (int x = 0; x < picture.width; x++) {
        column_[x] = uint32_t((x + grid.left) / grid.stride);
        share_[x] = float((x + grid.left) % grid.stride) / float(grid.stride);
    }
}

void MeanField::choose_labels(const Picture& picture, Grid& grid, float prune) {
    result_.labels = padded(grid.labels);
    grid_ = {grid.values.data(), grid.columns, grid.stride, grid.top, column_.data(), share_.data()};
    grid_row_.resize(size_t(grid.columns) * result_.labels);
    log_sum_.resize(0);
    if (!grid.normalized) {
        std::vector<float> largest(result_.labels, 0.0f);
        Buffer<float>& log_sum = log_sum_;
        log_sum.resize(size_t(picture.height) * picture.width);
        for_each_row(picture, [&](int, const RunView& run) {
            kernels().log_sums(run, log_sum.data() + run.first, largest.data());
        });
        grid.largest.assign(largest.begin(), largest.begin() + grid.labels);
    }
    const int best = int(std::max_element(grid.largest.begin(), grid.largest.end()) - grid.largest.begin());
    result_.kept.clear();
    for (int c = 0; c < grid.labels; c++) {
        if (c == best || grid.largest[c] >= prune) result_.kept.push_back(c);
    }
    if (int(result_.kept.size()) < grid.labels) keep_labels(grid);
    floor_.assign(result_.labels, kNever);
    std::fill(floor_.begin(), floor_.begin() + result_.kept.size(), std::log(kFloor));
}

void MeanField::keep_labels(const Grid& grid) {
    const int all = padded(grid.labels), some = padded(int(result_.kept.size()));
    const size_t points = size_t(grid.rows) * grid.columns;
    kept_grid_.resize(points * some);
    std::fill(kept_grid_.begin(), kept_grid_.end(), kNever);
    for (size_t i = 0; i < points; i++) {
        for (size_t c = 0; c < result_.kept.size(); c++) {
            kept_grid_[i * some + c] = grid.values[i * all + result_.kept[c]];
        }
    }
    grid_.values = kept_grid_.data();
    result_.labels = some;
}

void MeanField::build_kernels(const Picture& picture, const Parameters& p) {
    with_gaussian_ = p.gaussian_weight > 0 && p.iterations > 0;
    with_bilateral_ = p.bilateral_weight > 0 && p.iterations > 0;
    if (with_gaussian_) {
        // positions are the same in every picture of a size
        const std::vector<float> wanted{float(picture.height), float(picture.width), p.gaussian_xy, p.gaussian_weight,
                                        float(p.symmetric)};
        if (gaussian_is_for_ != wanted) {
            gaussian_is_for_.clear();
            gaussian_.build(picture, p.gaussian_xy, p.gaussian_weight, p.symmetric, table_);
            gaussian_is_for_ = wanted;
        }
        gaussian_.make_room(result_.labels);
    }
    if (with_bilateral_) {
        build_bilateral(picture, p.bilateral_xy, p.bilateral_rgb, table_, bilateral_.lattice);
        bilateral_.normalize(p.bilateral_weight, p.symmetric);
        bilateral_.make_room(result_.labels);
    }
}

OutputView MeanField::make_room_for_output(size_t pixels, bool want_posterior) {
    result_.label.resize(pixels);
    result_.confidence.resize(pixels);
    result_.posterior.resize(want_posterior ? pixels * result_.labels : 0);
    return {result_.label.data(), result_.confidence.data(), want_posterior ? result_.posterior.data() : nullptr};
}

void MeanField::iterate(const Picture& picture, int iterations, const OutputView& output) {
    const Kernels& k = kernels();
    const int labels = result_.labels;
    for (int iteration = 0; iteration < iterations; iteration++) {
        const KernelView g = gaussian(), b = bilateral();
        for_each_row(picture, [&](int y, const RunView& run) {
            if (with_gaussian_) gaussian_.begin_row(y, labels);
            if (with_bilateral_) bilateral_.clear_row(y, labels);
            if (iteration == 0) k.first_pass(run, g, b);
            else k.middle_pass(run, g, b);
            if (with_gaussian_) gaussian_.end_row(y, labels);
        });
        if (with_bilateral_) bilateral_.blur(labels);
    }
    const KernelView g = gaussian(), b = bilateral();
    for_each_row(picture, [&](int, const RunView& run) { k.last_pass(run, g, b, output); });
}

}  // namespace crf
