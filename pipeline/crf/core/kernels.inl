// The mean field's passes over pixels, compiled once for every instruction set; those over vertices are in rows.inl,
// and where a pixel's log probabilities come from is in logits.inl.
// CRF_WIDTH is the number of floats in the set's widest vector; CRF_NAME is its name.
#include "kernels.hpp"
#include "logits.inl"
#include "rows.inl"
#include "vectors.hpp"

namespace crf {
namespace {

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

template <int W, int N, int Corners>
CRF_INLINE void splat(const KernelView& kernel, size_t pixel, int n, const Floats<W>* q) {
    const uint32_t* vertex = kernel.vertex + pixel * Corners;
    const float* weight = kernel.splat_weight + pixel * Corners;
    for (int c = 0; c < Corners; c++) {
        float* row = row_at<W>(kernel.splatted, vertex[c] & kernel.splatted.ring, n);
        for (int k = 0; k < n; k++) store<W>(row + k * W, load<W>(row + k * W) + q[k] * weight[c]);
    }
}

// Splats scale * row as `pixel`.
template <int W, int N>
CRF_INLINE void splat_both(const KernelView& gaussian, const KernelView& bilateral, size_t pixel, int n, const float* row,
                           float scale) {
    Floats<W> q[Row<W, N>::kMost];
    for (int k = 0; k < n; k++) q[k] = load<W>(row + k * W) * scale;
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
    if (Sliced) add_messages<W, N>(gaussian, bilateral, run.first + i, n, e);
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
    Floats<4> all[kBlock];
    for (int i = 0; i < count; i++) {
        Floats<W> e[Row<W, N>::kMost], total{};
        logits<W, N, Sliced>(run, gaussian, bilateral, start + i, n, e);
        for (int k = 0; k < n; k++) {
            most = larger(most, e[k]);
            e[k] = exponential<W>(e[k]);
            total += e[k];
            store<W>(block.rows + (i * n + k) * W, e[k]);
        }
        all[i] = folded(total);
    }
    for (int i = count; i < kBlock; i++) all[i] = fill<4>(1.0f);
    for (int i = 0; i < kBlock; i += 4) {
        store<4>(block.scale + i, 1.0f / sums(all[i], all[i + 1], all[i + 2], all[i + 3]));
    }
    return !Sliced || largest(most) <= kMostLogit;
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

// Adds run's pixel i, whose posterior is scale * row, to `meeting`. Rarely called, and in the way of the loop around it.
template <int W, int N, bool Sliced>
__attribute__((noinline)) void meet(const RunView& run, const KernelView& gaussian, const KernelView& bilateral, int i, int n,
                     const float* row, float scale) {
    Floats<W> before[Row<W, N>::kMost], after[Row<W, N>::kMost], gain[Row<W, N>::kMost];
    logits<W, N, false>(run, gaussian, bilateral, i, n, before);
    if (Sliced) logits<W, N, true>(run, gaussian, bilateral, i, n, after);
    for (int k = 0; k < n; k++) {
        const Floats<W> message = Sliced ? after[k] - before[k] : load<W>(row + k * W) * (scale * run.weight);
        gain[k] = exponential<W>(-larger(-message, fill<W>(-kMostLogit))) - 1.0f;
    }
    for (int a = 0; a < n * W; a++) {
        float* line = run.meeting + a * n * W;
        for (int k = 0; k < n; k++) store<W>(line + k * W, load<W>(line + k * W) + gain[k] * (row[a] * scale));
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
            splat_both<W, N>(gaussian, bilateral, run.first + start + i, n, row, block.scale[i]);
        }
        for (int i = 0; i < count && run.meeting; i += kSampled) {
            meet<W, N, Sliced>(run, gaussian, bilateral, start + i, n, block.rows + i * n * W, block.scale[i]);
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
    [](const RunView& run, const SharedView& shared, float* out) { CRF_BY_LABELS(join_logs, run.labels, run, shared, out) },
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
