// The mean field's passes over pixels, compiled once for every instruction set; those over vertices are in rows.inl.
// CRF_WIDTH is the number of floats in the set's widest vector; CRF_NAME is its name.
#include "kernels.hpp"
#include "rows.inl"
#include "vectors.hpp"

namespace crf {
namespace {

// Pixels are worked on a block at a time, one step for the whole block after the other: a pixel's chain of operations is
// long, and short steps let the processor work on several pixels at once.
constexpr int kBlock = 16;
constexpr float kMostLogit = 60.0f;  // so that the sum of 256 exponentials is far from the end of a float

template <int W, int N>
void grid_row(const GridView& grid, int labels, int y, float* out) {
    const int n = Row<W, N>::vectors(labels) * grid.columns;
    const float share = grid.row_share[y];
    const float* above = grid.values + size_t(grid.row[y]) * n * W;
    const float* below = share > 0 ? above + size_t(n) * W : above;
    for (int k = 0; k < n; k++) {
        const Floats<W> a = load<W>(above + k * W), b = load<W>(below + k * W);
        store<W>(out + k * W, a + (b - a) * share);
    }
}

// Logits of the run's pixel i.
template <int W, int N>
CRF_INLINE void interpolate(const RunView& run, int i, int n, Floats<W>* e) {
    const float share = run.grid->share[i];
    const float* left = run.grid_row + size_t(run.grid->column[i]) * n * W;
    const float* right = share > 0 ? left + n * W : left;
    for (int k = 0; k < n; k++) {
        const Floats<W> a = load<W>(left + k * W), b = load<W>(right + k * W);
        e[k] = a + (b - a) * share;
    }
}

template <int W, int N>
CRF_INLINE void log_probabilities(const RunView& run, int i, int n, Floats<W>* e) {
    if (run.stored) {
        prefetch_row<W>(run.stored + size_t(i + kBlock) * n * W, n);
        for (int k = 0; k < n; k++) e[k] = load<W>(run.stored + (size_t(i) * n + k) * W);
        return;
    }
    interpolate<W, N>(run, i, n, e);
    const float log_sum = run.log_sum ? run.log_sum[i] : 0.0f;
    for (int k = 0; k < n; k++) e[k] = larger(e[k] - log_sum, load<W>(run.floor + k * W));
}

template <int W>
CRF_INLINE float largest_of(const Floats<W>* e, int n) {
    Floats<W> top = e[0];
    for (int k = 1; k < n; k++) top = larger(top, e[k]);
    return largest(top);
}

// Makes e exp(e - most), and returns the sum of that; `most` is the largest of e, whose exponential is exactly 1.
template <int W>
CRF_INLINE float exponentials(Floats<W>* e, int n, float most) {
    Floats<W> total{};
    for (int k = 0; k < n; k++) {
        e[k] = exponential<W>(e[k] - most);
        total += e[k];
    }
    return sum(total);
}

template <int W, int N>
void log_sums(const RunView& run, float* log_sum, float* largest) {
    const int n = Row<W, N>::vectors(run.labels);
    for (int i = 0; i < run.count; i++) {
        Floats<W> e[Row<W, N>::kMost];
        interpolate<W, N>(run, i, n, e);
        const float most = largest_of<W>(e, n), all = exponentials<W>(e, n, most);
        log_sum[i] = most + log_positive<4>(fill<4>(all))[0];
        for (int k = 0; k < n; k++) {
            store<W>(largest + k * W, larger(load<W>(largest + k * W), e[k] * (1.0f / all)));
        }
    }
}

float logs(const float* in, size_t count, float floor, float* out, float most) {
    constexpr int W = CRF_WIDTH;
    Floats<W> top = fill<W>(most);
    size_t i = 0;
    for (; i + W <= count; i += W) {
        const Floats<W> p = load<W>(in + i);
        top = larger(top, p);
        store<W>(out + i, log_positive<W>(larger(p, fill<W>(floor))));
    }
    most = largest(top);
    for (; i < count; i++) {
        most = in[i] > most ? in[i] : most;
        out[i] = log_positive<4>(fill<4>(in[i] > floor ? in[i] : floor))[0];
    }
    return most;
}

template <int W, int N, int Corners>
CRF_INLINE void slice(const KernelView& kernel, size_t pixel, int n, Floats<W>* e) {
    const uint32_t* vertex = kernel.vertex + pixel * Corners;
    const float* weight = kernel.slice_weight + pixel * Corners;
    for (int c = 0; c < Corners; c++) {
        const float* row = row_at<W>(kernel.sliced, vertex[c], n);
        for (int k = 0; k < n; k++) e[k] += load<W>(row + k * W) * weight[c];
    }
}

template <int W, int Corners>
CRF_INLINE void prefetch_sliced(const KernelView& kernel, size_t pixel, int n) {
    for (int c = 0; c < Corners && kernel.far; c++) {
        prefetch_row<W>(row_at<W>(kernel.sliced, kernel.vertex[pixel * Corners + c], n), n);
    }
}

template <int W, int N>
CRF_INLINE void add_messages(const KernelView& gaussian, const KernelView& bilateral, size_t pixel, int n, Floats<W>* e) {
    if (bilateral.vertex) {
        prefetch_sliced<W, 6>(bilateral, pixel + kBlock, n);
        slice<W, N, 6>(bilateral, pixel, n, e);
    }
    if (gaussian.vertex) {
        prefetch_sliced<W, 3>(gaussian, pixel + kBlock, n);
        slice<W, N, 3>(gaussian, pixel, n, e);
    }
}

// Where labels have costs of their own, see CRFParams.
template <int W, int N>
CRF_INLINE void add_costed_messages(const RunView& run, const KernelView& gaussian, const KernelView& bilateral,
                                    size_t pixel, int n, Floats<W>* e) {
    Floats<W> message[Row<W, N>::kMost], total{};
    for (int k = 0; k < n; k++) message[k] = Floats<W>{};
    add_messages<W, N>(gaussian, bilateral, pixel, n, message);
    for (int k = 0; k < n; k++) total += message[k];
    const float all = sum(total);
    for (int k = 0; k < n; k++) e[k] += message[k] * load<W>(run.cost + k * W) + load<W>(run.rest + k * W) * all;
}

template <int W, int N, int Corners>
CRF_INLINE void splat(const KernelView& kernel, size_t pixel, int n, const Floats<W>* q) {
    const uint32_t* vertex = kernel.vertex + pixel * Corners;
    const float* weight = kernel.splat_weight + pixel * Corners;
    for (int c = 0; c < Corners; c++) {
        float* row = row_at<W>(kernel.splatted, vertex[c] & kernel.splatted.ring, n);
        for (int k = 0; k < n; k++) store<W>(row + k * W, load<W>(row + k * W) + q[k] * weight[c]);
    }
}

// Splats scale * row as `pixel`, and raises `largest`, where there is one, to it.
template <int W, int N>
CRF_INLINE void splat_both(const KernelView& gaussian, const KernelView& bilateral, size_t pixel, int n, const float* row,
                           float scale, float* largest) {
    Floats<W> q[Row<W, N>::kMost];
    for (int k = 0; k < n; k++) q[k] = load<W>(row + k * W) * scale;
    for (int k = 0; k < n && largest; k++) store<W>(largest + k * W, larger(load<W>(largest + k * W), q[k]));
    if (bilateral.vertex) {
        for (int c = 0; c < 6 && bilateral.far; c++) {
            prefetch_row<W>(row_at<W>(bilateral.splatted, bilateral.vertex[(pixel + kBlock / 2) * 6 + c], n), n);
        }
        splat<W, N, 6>(bilateral, pixel, n, q);
    }
    if (gaussian.vertex) splat<W, N, 3>(gaussian, pixel, n, q);
}

template <int W, int N, bool Sliced>
CRF_INLINE void logits(const RunView& run, const KernelView& gaussian, const KernelView& bilateral, int i, int n,
                       Floats<W>* e) {
    log_probabilities<W, N>(run, i, n, e);
    if (Sliced && run.cost) add_costed_messages<W, N>(run, gaussian, bilateral, run.first + i, n, e);
    else if (Sliced) add_messages<W, N>(gaussian, bilateral, run.first + i, n, e);
}

// The posteriors of a block of pixels: scale * row each.
template <int W, int N>
struct Block {
    alignas(64) float rows[kBlock * Row<W, N>::kMost * W];
    float scale[kBlock];
};

// The posteriors of `count` pixels from `start` on. The exponentials are of the logits as they are, of which none of a
// label is below the floor's, log(1e-5): false where one is too large for that.
template <int W, int N, bool Sliced>
CRF_INLINE bool softmax(const RunView& run, const KernelView& gaussian, const KernelView& bilateral, int start, int count,
                        Block<W, N>& block) {
    const int n = Row<W, N>::vectors(run.labels);
    Floats<W> most{};
    for (int i = 0; i < count; i++) {
        Floats<W> e[Row<W, N>::kMost];
        logits<W, N, Sliced>(run, gaussian, bilateral, start + i, n, e);
        for (int k = 0; k < n; k++) {
            most = larger(most, e[k]);
            store<W>(block.rows + (i * n + k) * W, e[k]);
        }
    }
    for (int at = 0; at < count * n * W; at += CRF_WIDTH) {  // whole vectors, some beyond the last pixel
        store<CRF_WIDTH>(block.rows + at, exponential<CRF_WIDTH>(load<CRF_WIDTH>(block.rows + at)));
    }
    Floats<4> all[kBlock];
    for (int i = 0; i < count; i++) {
        Floats<W> total{};
        for (int k = 0; k < n; k++) total += load<W>(block.rows + (i * n + k) * W);
        all[i] = folded(total);
    }
    for (int i = count; i < kBlock; i++) all[i] = fill<4>(1.0f);
    for (int i = 0; i < kBlock; i += 4) {
        store<4>(block.scale + i, 1.0f / sums(all[i], all[i + 1], all[i + 2], all[i + 3]));
    }
    return largest(most) <= kMostLogit;
}

// The same, but the exponentials are of the logits less the pixel's largest, whose place in the row is exactly 1.
template <int W, int N, bool Sliced>
CRF_INLINE void softmax_of_any(const RunView& run, const KernelView& gaussian, const KernelView& bilateral, int start,
                               int count, Block<W, N>& block) {
    const int n = Row<W, N>::vectors(run.labels);
    for (int i = 0; i < count; i++) {
        Floats<W> e[Row<W, N>::kMost];
        logits<W, N, Sliced>(run, gaussian, bilateral, start + i, n, e);
        block.scale[i] = 1.0f / exponentials<W>(e, n, largest_of<W>(e, n));
        for (int k = 0; k < n; k++) store<W>(block.rows + (i * n + k) * W, e[k]);
    }
}

template <int W, int N, bool Sliced>
CRF_INLINE void splat_posteriors(const RunView& run, const KernelView& gaussian, const KernelView& bilateral) {
    const int n = Row<W, N>::vectors(run.labels);
    Block<W, N> block;
    for (int start = 0; start < run.count; start += kBlock) {
        const int count = run.count - start < kBlock ? run.count - start : kBlock;
        if (!softmax<W, N, Sliced>(run, gaussian, bilateral, start, count, block)) {
            softmax_of_any<W, N, Sliced>(run, gaussian, bilateral, start, count, block);
        }
        for (int i = 0; i < count; i++) {
            const float* row = block.rows + i * n * W;
            splat_both<W, N>(gaussian, bilateral, run.first + start + i, n, row, block.scale[i], run.largest);
        }
    }
}

template <int W, int N>
void first_pass(const RunView& run, KernelView gaussian, KernelView bilateral) {
    splat_posteriors<W, N, false>(run, gaussian, bilateral);
}

template <int W, int N>
void middle_pass(const RunView& run, KernelView gaussian, KernelView bilateral) {
    splat_posteriors<W, N, true>(run, gaussian, bilateral);
}

inline void write(const OutputView& output, size_t pixel, int labels, const float* row, float scale) {
    int best = 0;
    while (best < labels - 1 && row[best] != 1.0f) best++;
    output.label[pixel] = uint8_t(best);
    output.confidence[pixel] = scale;
    for (int c = 0; c < labels && output.posterior; c++) output.posterior[pixel * labels + c] = row[c] * scale;
}

template <int W, int N>
void last_pass(const RunView& run, KernelView gaussian, KernelView bilateral, const OutputView& output) {
    const int labels = Row<W, N>::vectors(run.labels) * W;
    Block<W, N> block;
    for (int start = 0; start < run.count; start += kBlock) {
        const int count = run.count - start < kBlock ? run.count - start : kBlock;
        softmax_of_any<W, N, true>(run, gaussian, bilateral, start, count, block);
        for (int i = 0; i < count; i++) {
            write(output, run.first + start + i, labels, block.rows + i * labels, block.scale[i]);
        }
    }
}

constexpr int kWide = CRF_WIDTH;
constexpr int kEight = CRF_WIDTH < 8 ? CRF_WIDTH : 8;

// Calls F<W, N> for the number of labels at hand.
#define CRF_BY_LABELS(F, labels, ...)                               \
    switch (labels) {                                               \
        case 4: return F<4, 1>(__VA_ARGS__);                        \
        case 8: return F<kEight, 8 / kEight>(__VA_ARGS__);          \
        case 16: return F<kWide, 16 / kWide>(__VA_ARGS__);          \
        case 24: return F<kEight, 24 / kEight>(__VA_ARGS__);        \
        case 32: return F<kWide, 32 / kWide>(__VA_ARGS__);          \
        default: return F<kEight, 0>(__VA_ARGS__);                  \
    }

const Kernels table = {
    CRF_NAME,
    [](const GridView& grid, int labels, int y, float* out) { CRF_BY_LABELS(grid_row, labels, grid, labels, y, out) },
    [](const RunView& run, float* log_sum, float* largest) { CRF_BY_LABELS(log_sums, run.labels, run, log_sum, largest) },
    logs,
    [](const RunView& run, const KernelView& g, const KernelView& b) { CRF_BY_LABELS(first_pass, run.labels, run, g, b) },
    [](const RunView& run, const KernelView& g, const KernelView& b) { CRF_BY_LABELS(middle_pass, run.labels, run, g, b) },
    [](const RunView& run, const KernelView& g, const KernelView& b, const OutputView& output) {
        CRF_BY_LABELS(last_pass, run.labels, run, g, b, output)
    },
    [](const BlurStep& step, uint32_t first, uint32_t last, int labels) {
        CRF_BY_LABELS(blur_step, labels, step, first, last, labels)
    },
    [](const uint32_t* chain, size_t length, int labels, const RowsView& rows) {
        CRF_BY_LABELS(blur, labels, chain, length, labels, rows)
    },
};

}  // namespace
}  // namespace crf
