// A hash table of lattice vertices.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "buffer.hpp"

namespace crf {

// Numbers the vertices of a picture, and remembers them by names, whose highest bits have to look random. Kept from
// picture to picture.
class Table {
  public:
    void clear(size_t expected);
    size_t size() const { return names_.size(); }
    uint64_t name(size_t vertex) const { return names_[vertex]; }
    // A look-up reads a slot, and then the name of the vertex that is there: each can be called for ahead of time.
    void prefetch_slot(uint64_t name) const { __builtin_prefetch(&slots_[slot(name)]); }
    void prefetch_name(uint64_t name) const { __builtin_prefetch(names_.data() + std::max(slots_[slot(name)], 0)); }
    uint32_t insert(uint64_t name) {
        size_t at = slot(name);
        for (; slots_[at] >= 0; at = (at + 1) & mask_) {
            if (names_[slots_[at]] == name) return uint32_t(slots_[at]);
        }
        place(name, at, int32_t(names_.size()));
        names_.push_back(name);
        if (names_.size() * 2 > mask_) grow();
        return uint32_t(names_.size() - 1);
    }
    // -1 where there is none.
    int32_t find(uint64_t name) const {
        size_t at = slot(name);
        while (slots_[at] >= 0 && names_[slots_[at]] != name) at = (at + 1) & mask_;
        return slots_[at];
    }
    // False says that there is no such vertex, from a table small enough for the processor's cache.
    bool may_have(uint64_t name) const {
        const size_t at = bit(name);
        return seen_[at / 64] >> at % 64 & 1;
    }

  private:
    static constexpr int kBitsOfSlot = 3;  // 8 bits for each slot, so that one in 16 to 32 names is taken for another
    size_t slot(uint64_t name) const { return name >> shift_; }
    size_t bit(uint64_t name) const { return name >> (shift_ - kBitsOfSlot); }
    void place(uint64_t name, size_t slot, int32_t vertex) {
        slots_[slot] = vertex;
        const size_t at = bit(name);
        seen_[at / 64] |= uint64_t(1) << at % 64;
    }
    void resize(int bits);
    void grow();

    Buffer<int32_t> slots_;
    Buffer<uint64_t> seen_;  // a bit is set where a name was hashed to it
    std::vector<uint64_t> names_;
    size_t mask_ = 0;
    int shift_ = 0;
};

}  // namespace crf
