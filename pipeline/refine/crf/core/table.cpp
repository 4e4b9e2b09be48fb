#include "table.hpp"

#include <algorithm>

namespace crf {

void Table::clear(size_t expected) {
    names_.clear();
    int bits = 10;
    while ((size_t(1) << bits) < expected * 2) bits++;
    resize(bits);
}

void Table::resize(int bits) {
    shift_ = 64 - bits;
    mask_ = (size_t(1) << bits) - 1;
    slots_.resize(mask_ + 1);
    std::fill(slots_.begin(), slots_.end(), -1);
    seen_.resize(((mask_ + 1) << kBitsOfSlot) / 64);
    std::fill(seen_.begin(), seen_.end(), uint64_t(0));
}

void Table::grow() {
    resize(64 - shift_ + 1);
    for (size_t vertex = 0; vertex < names_.size(); vertex++) {
        size_t at = slot(names_[vertex]);
        while (slots_[at] >= 0) at = (at + 1) & mask_;
        place(names_[vertex], at, int32_t(vertex));
    }
}

}  // namespace crf
