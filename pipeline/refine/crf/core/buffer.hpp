// Memory that is kept from one picture to the next: fresh pages cost as much as the arithmetic on them.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

namespace crf {

// An array of plain values that grows and never shrinks. What it holds after resize() is undefined.
template <class T>
class Buffer {
  public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Buffer() { std::free(data_); }

    // Room for `size` values, aligned to a cache line and followed by a few spare ones that may be read.
    void resize(size_t size) {
        size_ = size;
        if (size <= capacity_) return;
        std::free(data_);
        data_ = nullptr;
        capacity_ = 0;
        const size_t bytes = (size + kSpare) * sizeof(T);
        data_ = static_cast<T*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
        if (!data_) throw std::bad_alloc();
        capacity_ = size;
        for (size_t i = size; i < size + kSpare; i++) data_[i] = T{};
    }

    T* data() { return data_; }
    const T* data() const { return data_; }
    size_t size() const { return size_; }
    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }
    T* begin() { return data_; }
    T* end() { return data_ + size_; }
    const T* begin() const { return data_; }
    const T* end() const { return data_ + size_; }

  private:
    void swap(Buffer& other) {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
    }

    static constexpr size_t kSpare = 256;
    T* data_ = nullptr;
    size_t size_ = 0, capacity_ = 0;
};

}  // namespace crf
