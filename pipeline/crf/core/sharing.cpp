#include "sharing.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels.hpp"

namespace crf {
namespace {

// Logit of a label at a pixel, as the passes interpolate it.
struct Point {
    const float *above_left, *above_right, *below_left, *below_right;
    float down, right;

    Point(const Grid& grid, int y, int x) {
        const size_t row = padded(grid.labels), line = grid.columns * row;
        const int from_top = y + grid.top, from_left = x + grid.left;
        down = float(from_top % grid.stride) / float(grid.stride);
        right = float(from_left % grid.stride) / float(grid.stride);
        above_left = grid.values.data() + from_top / grid.stride * line + from_left / grid.stride * row;
        above_right = right > 0 ? above_left + row : above_left;
        below_left = down > 0 ? above_left + line : above_left;
        below_right = right > 0 ? below_left + row : below_left;
    }
    float operator[](int label) const {
        const float left = above_left[label] + (below_left[label] - above_left[label]) * down;
        return left + (above_right[label] + (below_right[label] - above_right[label]) * down - left) * right;
    }
};

}  // namespace

Columns join(const std::vector<float>& meeting, int columns, int row, float most) {
    constexpr float kItself = std::numeric_limits<float>::infinity();
    std::vector<std::vector<float>> excess(columns, std::vector<float>(columns));
    for (int a = 0; a < columns; a++) {
        for (int b = 0; b < columns; b++) excess[a][b] = a == b ? kItself : meeting[a * row + b] + meeting[b * row + a];
    }
    Columns joined(columns), found;
    for (int c = 0; c < columns; c++) joined[c] = {c};
    float all = 0.0f;
    while (joined.size() > 1) {
        size_t first = 0, second = 0;
        for (size_t a = 0; a < joined.size(); a++) {
            const size_t b = std::min_element(excess[a].begin(), excess[a].end()) - excess[a].begin();
            if (excess[a][b] < excess[first][second]) first = a, second = b;
        }
        all += excess[first][second];
        if (!(all <= most)) break;
        joined[first].insert(joined[first].end(), joined[second].begin(), joined[second].end());
        joined.erase(joined.begin() + second);
        for (size_t c = 0; c < excess.size(); c++) excess[first][c] = excess[c][first] += excess[second][c];
        excess.erase(excess.begin() + second);
        for (std::vector<float>& line : excess) line.erase(line.begin() + second);
        const int now = int(joined.size());
        if (padded(now) < row && padded(now) == now) found = joined;
    }
    return found;
}

void add_columns(const float* from, size_t rows, int labels, const Columns& columns, float* to) {
    const int some = padded(int(columns.size()));
    uint8_t column[kMaxLabels] = {};  // where each value goes; padding is 0 and may go anywhere
    for (size_t c = 0; c < columns.size(); c++) {
        for (int member : columns[c]) column[member] = uint8_t(c);
    }
    float sums[kMaxLabels];
    for (size_t row = 0; row < rows; row++) {
        std::fill(sums, sums + some, 0.0f);
        for (int c = 0; c < labels; c++) sums[column[c]] += from[row * labels + c];
        std::copy(sums, sums + some, to + row * some);
    }
}

void take_first(const float* from, size_t rows, int labels, const Columns& columns, float* to) {
    const int some = padded(int(columns.size()));
    float taken[kMaxLabels];
    std::fill(taken, taken + some, kNever);
    for (size_t row = 0; row < rows; row++) {
        for (size_t c = 0; c < columns.size(); c++) taken[c] = from[row * labels + columns[c][0]];
        std::copy(taken, taken + some, to + row * some);
    }
}

Best best_of(const Grid& grid, int y, int x, const std::vector<int>& labels) {
    constexpr float kNothing = -17.0f;  // the exponential of it is lost beside 1
    const Point logit(grid, y, x);
    Best best{labels[0], 1.0f};
    float most = logit[labels[0]], rest = 0.0f;
    for (size_t i = 1; i < labels.size(); i++) {
        const float here = logit[labels[i]];
        if (here > most || (here == most && labels[i] < best.label)) {
            rest = here - most > -kNothing ? 0.0f : (rest + 1.0f) * std::exp(most - here);
            most = here;
            best.label = labels[i];
        } else if (here - most > kNothing) {
            rest += std::exp(here - most);
        }
    }
    best.share = 1.0f / (1.0f + rest);
    return best;
}

void shares(const Grid& grid, int y, int x, const std::vector<int>& labels, float* share) {
    const Point logit(grid, y, x);
    float most = logit[labels[0]], sum = 0.0f;
    for (int label : labels) most = std::max(most, logit[label]);
    for (size_t i = 0; i < labels.size(); i++) sum += share[i] = std::exp(logit[labels[i]] - most);
    for (size_t i = 0; i < labels.size(); i++) share[i] /= sum;
}

}  // namespace crf
