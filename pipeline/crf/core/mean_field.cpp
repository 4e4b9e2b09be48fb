#include "mean_field.hpp"

#include <algorithm>
#include <cmath>

namespace crf {
namespace {

// By how much, in the mean over the pixels, posteriors may be too large when columns are joined. About as large a share
// of the labels changes at most.
constexpr float kExcess = 5e-5f;
constexpr int kWorthIt = 3;      // iterations that have to follow, or joining columns takes longer than it saves
constexpr int kSampledRows = 4;  // of so many rows of pixels one tells which labels meet

// A column for each of the labels that are anywhere as probable as `least`, ascending; the most probable always is.
Columns probable(const std::vector<float>& largest, float least) {
    const auto best = std::max_element(largest.begin(), largest.end()) - largest.begin();
    Columns found;
    for (size_t c = 0; c < largest.size(); c++) {
        if (c == size_t(best) || largest[c] >= least) found.push_back({int(c)});
    }
    return found;
}

}  // namespace

const Result& MeanField::run(const Picture& picture, Grid& grid, const Parameters& p, bool want_posterior) {
    place_columns(picture, grid);
    choose_labels(picture, grid, p.prune);
    build_kernels(picture, p);
    iterate(picture, grid, p);
    finish(picture, make_room_for_output(size_t(picture.height) * picture.width, want_posterior));
    name_labels(picture, grid);
    return result_;
}

template <class Pass>
void MeanField::for_each_row(const Picture& picture, Pass pass) {
    const int labels = result_.row;
    for (int y = 0; y < picture.height; y++) {
        const size_t first = size_t(y) * picture.width;
        RunView run{};
        run.labels = labels;
        run.first = first;
        run.count = picture.width;
        run.shared = int(result_.columns.size()) - shared_.columns;
        run.joined = shared_.count ? joined_.data() + kMaxLabels + first * shared_.row : nullptr;
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
    result_.row = padded(grid.labels);
    grid_ = {grid.values.data(), grid.columns, grid.stride, grid.top, column_.data(), share_.data()};
    grid_row_.resize(size_t(grid.columns) * result_.row);
    log_sum_.resize(0);
    if (!grid.normalized) {
        std::vector<float> largest(result_.row, 0.0f);
        Buffer<float>& log_sum = log_sum_;
        log_sum.resize(size_t(picture.height) * picture.width);
        for_each_row(picture, [&](int, const RunView& run) {
            kernels().log_sums(run, log_sum.data() + run.first, largest.data());
        });
        grid.largest.assign(largest.begin(), largest.begin() + grid.labels);
    }
    shared_ = {};
    result_.columns = Columns(grid.labels);
    for (int c = 0; c < grid.labels; c++) result_.columns[c] = {c};
    set_floor();
    const Columns kept = probable(grid.largest, prune);
    if (int(kept.size()) < grid.labels) set_columns(grid, kept);
}

void MeanField::set_floor() {
    floor_.assign(result_.row, kNever);
    std::fill(floor_.begin(), floor_.begin() + result_.columns.size(), std::log(kFloor));
}

void MeanField::set_columns(const Grid& grid, const Columns& columns) {
    const size_t points = size_t(grid.rows) * grid.columns;
    const int row = padded(int(columns.size()));
    if (grid_.values == grid.values.data()) kept_grid_.resize(points * row);
    take_first(grid_.values, points, result_.row, columns, kept_grid_.data());
    grid_.values = kept_grid_.data();
    Columns labels(columns.size());
    for (size_t c = 0; c < columns.size(); c++) {
        for (int from : columns[c]) {
            labels[c].insert(labels[c].end(), result_.columns[from].begin(), result_.columns[from].end());
        }
        std::sort(labels[c].begin(), labels[c].end());
    }
    result_.columns = labels;
    result_.row = row;
    set_floor();
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
        gaussian_.make_room(result_.row);
    }
    if (with_bilateral_) {
        build_bilateral(picture, p.bilateral_xy, p.bilateral_rgb, table_, bilateral_.lattice);
        bilateral_.normalize(p.bilateral_weight, p.symmetric);
        bilateral_.make_room(result_.row);
    }
}

OutputView MeanField::make_room_for_output(size_t pixels, bool want_posterior) {
    result_.label.resize(pixels);
    result_.confidence.resize(pixels);
    result_.posterior.resize(want_posterior ? pixels * result_.row : 0);
    return {result_.label.data(), result_.confidence.data(), want_posterior ? result_.posterior.data() : nullptr};
}

void MeanField::iterate(const Picture& picture, const Grid& grid, const Parameters& p) {
    const Kernels& k = kernels();
    for (int iteration = 0; iteration < p.iterations; iteration++) {
        const KernelView g = gaussian(), b = bilateral();
        const bool may_share = p.prune > 0 && result_.row > padded(1) && iteration + kWorthIt < p.iterations;
        int samples = 0;
        meeting_.assign(may_share ? size_t(result_.row) * result_.row : 0, 0.0f);
        for_each_row(picture, [&](int y, RunView run) {
            if (may_share && y % kSampledRows == 0) {
                run.weight = (with_gaussian_ ? p.gaussian_weight : 0) + (with_bilateral_ ? p.bilateral_weight : 0);
                run.meeting = meeting_.data();
                samples += (run.count + kSampled - 1) / kSampled;
            }
            if (with_gaussian_) gaussian_.begin_row(y);
            if (with_bilateral_) bilateral_.clear_row(y);
            if (iteration == 0) k.first_pass(run, g, b);
            else k.middle_pass(run, g, b);
            if (with_gaussian_) gaussian_.end_row(y);
        });
        if (may_share) share_columns(picture, grid, samples);
        if (with_bilateral_) bilateral_.blur();
    }
}

void MeanField::share_columns(const Picture& picture, const Grid& grid, int samples) {
    Columns columns = join(meeting_, int(result_.columns.size()), result_.row, kExcess * float(samples));
    if (columns.empty()) return;
    std::stable_partition(columns.begin(), columns.end(), [&](const std::vector<int>& from) {
        return from.size() == 1 && result_.columns[from[0]].size() == 1;
    });
    if (with_gaussian_) gaussian_.join(columns);
    if (with_bilateral_) bilateral_.join(columns);
    set_columns(grid, columns);
    join_logs(picture, grid);
}

void MeanField::join_logs(const Picture& picture, const Grid& grid) {
    shared_labels_.clear();
    shared_columns_.clear();
    uint8_t shared = 0;
    for (const std::vector<int>& labels : result_.columns) {
        if (labels.size() == 1) continue;
        for (int label : labels) {
            shared_labels_.push_back(uint8_t(label));
            shared_columns_.push_back(shared);
        }
        shared++;
    }
    const int filling = result_.row - int(result_.columns.size());
    shared_ = {int(shared_labels_.size()), shared_labels_.data(), shared_columns_.data(), shared, shared + filling};
    joined_.resize(2 * kMaxLabels + size_t(picture.height) * picture.width * shared_.row);
    const int labels = padded(grid.labels);
    const std::vector<float> floor(labels, std::log(kFloor));
    std::vector<float> grid_row(size_t(grid.columns) * labels);
    GridView view = grid_;
    view.values = grid.values.data();
    float* out = joined_.data() + kMaxLabels;  // vectors are loaded whole, beyond either end
    for (int y = 0; y < picture.height; y++, out += picture.width * shared_.row) {
        RunView run{};
        run.labels = labels;
        run.first = size_t(y) * picture.width;
        run.count = picture.width;
        if (log_sum_.size()) {
            kernels().grid_row(view, labels, y, grid_row.data());
            run.grid = &view;
            run.grid_row = grid_row.data();
            run.log_sum = log_sum_.data() + run.first;
            run.floor = floor.data();
        } else {
            run.stored = grid.values.data() + run.first * labels;
        }
        kernels().join_logs(run, shared_, out);
    }
}

void MeanField::finish(const Picture& picture, const OutputView& output) {
    const KernelView g = gaussian(), b = bilateral();
    for_each_row(picture, [&](int, const RunView& run) { kernels().last_pass(run, g, b, output); });
}

void MeanField::name_labels(const Picture& picture, const Grid& grid) {
    size_t pixel = 0;
    for (int y = 0; y < picture.height; y++) {
        for (int x = 0; x < picture.width; x++, pixel++) {
            const std::vector<int>& labels = result_.columns[result_.label[pixel]];
            const Best best = labels.size() > 1 ? best_of(grid, y, x, labels) : Best{labels[0], 1.0f};
            result_.label[pixel] = uint8_t(best.label);
            result_.confidence[pixel] *= best.share;
        }
    }
}

}  // namespace crf
