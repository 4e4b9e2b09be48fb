#include "grid.hpp"

#include <cstring>

#include "kernels.hpp"

namespace crf {
namespace {

constexpr float kLargestLogit = 1e30f;  // differences of logits must not overflow; beyond 100 they say nothing more

template <class T>
T value_at(const char* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

// IEEE 754 binary16 to binary32.
float from_half(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16, magnitude = half & 0x7fff;
    if (magnitude < 0x0400) {  // zero and denormal numbers: units of 2^-24
        const float value = float(magnitude) * 5.9604644775390625e-8f;
        return sign ? -value : value;
    }
    const uint32_t exponent = magnitude >= 0x7c00 ? 0x70000000 : 0x38000000;
    const uint32_t bits = sign | ((magnitude << 13) + exponent);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace

void FloatArray::read(int label, int row, float* out) const {
    const char* from = data + label * label_stride + row * row_stride;
    if (type == Type::kSingle && column_stride == sizeof(float)) {
        std::memcpy(out, from, columns * sizeof(float));
        return;
    }
    switch (type) {
        case Type::kHalf:
            for (int i = 0; i < columns; i++) out[i] = from_half(value_at<uint16_t>(from + i * column_stride));
            break;
        case Type::kSingle:
            for (int i = 0; i < columns; i++) out[i] = value_at<float>(from + i * column_stride);
            break;
        case Type::kDouble:
            for (int i = 0; i < columns; i++) out[i] = float(value_at<double>(from + i * column_stride));
            break;
    }
}

void Grid::make_room(const FloatArray& array) {
    labels = array.labels;
    rows = array.rows;
    columns = array.columns;
    values.resize(size_t(rows) * columns * padded(labels));
    lines_.resize(size_t(labels) * columns);
}

void Grid::put_row(int y) {
    const int row = padded(labels);
    float* to = values.data() + size_t(y) * columns * row;
    for (int x = 0; x < columns; x++, to += row) {
        for (int c = 0; c < labels; c++) to[c] = lines_[size_t(c) * columns + x];
        for (int c = labels; c < row; c++) to[c] = kNever;
    }
}

void Grid::take_logits(const FloatArray& logits, const Axis& down_, const Axis& along_) {
    make_room(logits);
    down = down_;
    along = along_;
    normalized = false;
    for (int y = 0; y < rows; y++) {
        for (int c = 0; c < labels; c++) logits.read(c, y, lines_.data() + size_t(c) * columns);
        for (float& logit : lines_) logit = std::min(std::max(logit, -kLargestLogit), kLargestLogit);
        put_row(y);
    }
}

void Grid::take_probabilities(const FloatArray& probabilities, float floor) {
    make_room(probabilities);
    down = along = {1, 0, 1};
    normalized = true;
    largest.assign(labels, 0.0f);
    for (int y = 0; y < rows; y++) {
        for (int c = 0; c < labels; c++) {
            float* line = lines_.data() + size_t(c) * columns;
            probabilities.read(c, y, line);
            largest[c] = kernels().logs(line, columns, floor, line, largest[c]);
        }
        put_row(y);
    }
}

}  // namespace crf
