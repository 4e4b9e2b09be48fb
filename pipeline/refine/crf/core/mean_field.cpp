#include "mean_field.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace crf {
namespace {

// A label that after a step is nowhere as probable as this many times `prune` does not grow any more. It is not much
// more: at five times, the labels of two pixels in ten thousand of photographs changed, at 67/3.
constexpr float kStillWeak = 2.0f;

// Which of the labels are anywhere as probable as `least`, ascending; the most probable always is.
std::vector<int> probable(const std::vector<float>& largest, size_t count, float least) {
    const auto best = std::max_element(largest.begin(), largest.begin() + count) - largest.begin();
    std::vector<int> labels;
    for (size_t c = 0; c < count; c++) {
        if (c == size_t(best) || largest[c] >= least) labels.push_back(int(c));
    }
    return labels;
}

}  // namespace

const Result& MeanField::run(const Picture& picture, Grid& grid, const Parameters& p, bool want_posterior) {
    label_costs_ = p.label_costs;
    place_pixels(picture, grid);
    choose_labels(picture, grid, p.prune);
    build_kernels(picture, p);
    iterate(picture, grid, p);
    finish(picture, make_room_for_output(size_t(picture.height) * picture.width, want_posterior));
    return result_;
}

template <class Pass>
void MeanField::for_each_row(const Picture& picture, Pass pass) {
    const int labels = result_.labels;
    for (int y = 0; y < picture.height; y++) {
        const size_t first = size_t(y) * picture.width;
        RunView run{labels, first, picture.width, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
        if (!label_costs_.empty()) {
            run.cost = cost_.data();
            run.rest = rest_.data();
        }
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

void MeanField::place_pixels(const Picture& picture, const Grid& grid) {
    row_.resize(picture.height);
    row_share_.resize(picture.height);
    for (int y = 0; y < picture.height; y++) row_[y] = uint32_t(grid.down.place(y, grid.rows, row_share_[y]));
    column_.resize(picture.width);
    share_.resize(picture.width);
    for (int x = 0; x < picture.width; x++) column_[x] = uint32_t(grid.along.place(x, grid.columns, share_[x]));
}

void MeanField::choose_labels(const Picture& picture, Grid& grid, float prune) {
    result_.labels = padded(grid.labels);
    grid_ = {grid.values.data(), grid.columns, row_.data(), row_share_.data(), column_.data(), share_.data()};
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
    result_.kept.resize(grid.labels);
    std::iota(result_.kept.begin(), result_.kept.end(), 0);
    floor_.assign(result_.labels, kNever);
    std::fill(floor_.begin(), floor_.begin() + grid.labels, std::log(kFloor));
    const std::vector<int> kept = probable(grid.largest, grid.labels, prune);
    if (int(kept.size()) < grid.labels) keep(grid, kept);
    else place_costs();
}

// With messages m of the labels, label a pays for its neighbours sum_b (c_a + c_b) / 2 m_b over the b that differ, which
// is c_a (M / 2 - m_a), M the sum of all m, and the same for all labels beside. Less the dearest label's M / 2, so that
// no logit falls, it gains c_a m_a + rest_a M.
void MeanField::place_costs() {
    if (label_costs_.empty()) return;
    const float dearest = *std::max_element(label_costs_.begin(), label_costs_.end());
    cost_.assign(result_.labels, 0.0f);
    rest_.assign(result_.labels, 0.0f);
    for (size_t c = 0; c < result_.kept.size(); c++) {
        cost_[c] = label_costs_[result_.kept[c]];
        rest_[c] = (dearest - cost_[c]) / 2;
    }
}

void MeanField::keep(const Grid& grid, const std::vector<int>& kept) {
    const int some = padded(int(kept.size()));
    const size_t points = size_t(grid.rows) * grid.columns;
    if (grid_.values == grid.values.data()) kept_grid_.resize(points * some);
    keep_columns(grid_.values, points, result_.labels, kept, kNever, kept_grid_.data());
    grid_.values = kept_grid_.data();
    floor_.assign(some, kNever);
    std::fill(floor_.begin(), floor_.begin() + kept.size(), std::log(kFloor));
    for (size_t c = 0; c < kept.size(); c++) result_.kept[c] = result_.kept[kept[c]];
    result_.kept.resize(kept.size());
    result_.labels = some;
    place_costs();
}

void MeanField::build_kernels(const Picture& picture, const Parameters& p) {
    with_gaussian_ = p.gaussian_weight > 0 && p.iterations > 0;
    with_bilateral_ = p.bilateral_weight > 0 && p.iterations > 0;
    if (with_gaussian_) {
        // positions are the same in every picture of a size
        const std::vector<float> settings{float(picture.height), float(picture.width), p.gaussian_xy, p.gaussian_weight,
                                          float(p.symmetric)};
        if (gaussian_is_for_ != settings) {
            gaussian_is_for_.clear();
            gaussian_.build(picture, p.gaussian_xy, p.gaussian_weight, p.symmetric, table_);
            gaussian_is_for_ = settings;
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

void MeanField::iterate(const Picture& picture, const Grid& grid, const Parameters& p) {
    const Kernels& k = kernels();
    for (int iteration = 0; iteration < p.iterations; iteration++) {
        const KernelView g = gaussian(), b = bilateral();
        const int labels = result_.labels;
        const bool may_drop = p.prune > 0 && iteration > 0;
        largest_.assign(labels, 0.0f);
        for_each_row(picture, [&](int y, RunView run) {
            run.largest = may_drop ? largest_.data() : nullptr;
            if (with_gaussian_) gaussian_.begin_row(y);
            if (with_bilateral_) bilateral_.clear_row(y);
            if (iteration == 0) k.first_pass(run, g, b);
            else k.middle_pass(run, g, b);
            if (with_gaussian_) gaussian_.end_row(y);
        });
        if (may_drop) drop_labels(grid, kStillWeak * p.prune);
        if (with_bilateral_) bilateral_.blur();
    }
}

void MeanField::drop_labels(const Grid& grid, float least) {
    const int labels = result_.labels;
    const std::vector<int> kept = probable(largest_, result_.kept.size(), least);
    if (padded(int(kept.size())) == labels) return;  // rows would be no shorter
    if (with_gaussian_) gaussian_.keep(kept);
    if (with_bilateral_) bilateral_.keep(kept);
    keep(grid, kept);
}

void MeanField::finish(const Picture& picture, const OutputView& output) {
    const KernelView g = gaussian(), b = bilateral();
    for_each_row(picture, [&](int, const RunView& run) { kernels().last_pass(run, g, b, output); });
}

}  // namespace crf
