// What Python sees: arrays in, arrays out. Everything about them was checked in pipeline/refine/crf/dense_crf.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <tuple>

#include "mean_field.hpp"

namespace py = pybind11;

namespace crf {
namespace {

constexpr int kInterface = 4;  // raised with every change that pipeline/refine/crf/native.py must know of

Picture picture_of(const py::array_t<uint8_t>& image) {
    return {int(image.shape(0)), int(image.shape(1)), image.data(), image.strides(0), image.strides(1), image.strides(2)};
}

FloatArray floats_of(const py::array& array) {
    if (array.dtype().kind() != 'f' || array.ndim() != 3) throw std::invalid_argument("not a (C, h, w) array of floats");
    FloatArray::Type type;
    switch (array.itemsize()) {
        case 2: type = FloatArray::Type::kHalf; break;
        case 4: type = FloatArray::Type::kSingle; break;
        case 8: type = FloatArray::Type::kDouble; break;
        default: throw std::invalid_argument("floats of 2, 4 or 8 bytes are taken");
    }
    return {type,
            int(array.shape(0)),
            int(array.shape(1)),
            int(array.shape(2)),
            static_cast<const char*>(array.data()),
            array.strides(0),
            array.strides(1),
            array.strides(2)};
}

using Placing = std::tuple<int64_t, int64_t, int64_t>;  // pipeline.geometry.Axis

Axis axis_of(const Placing& placing) {
    return {std::get<0>(placing), std::get<1>(placing), std::get<2>(placing)};
}

// A mean field with its memory; calls from several threads take turns.
class Core {
  public:
    py::tuple label(const py::array_t<uint8_t>& image, const py::array& logits, const Placing& rows, const Placing& columns,
                    const Parameters& parameters) {
        const Picture picture = picture_of(image);
        const FloatArray array = floats_of(logits);
        py::array_t<uint8_t> labels({picture.height, picture.width});
        py::array_t<float> winning({picture.height, picture.width});
        uint8_t* label = labels.mutable_data();
        float* posterior = winning.mutable_data();
        size_t kept = 0;
        {
            py::gil_scoped_release release;
            const std::lock_guard<std::mutex> lock(mutex_);
            grid_.take_logits(array, axis_of(rows), axis_of(columns));
            const Result& result = mean_field_.run(picture, grid_, parameters, false);
            for (size_t i = 0; i < result.label.size(); i++) label[i] = uint8_t(result.kept[result.label[i]]);
            std::copy(result.confidence.begin(), result.confidence.end(), posterior);
            kept = result.kept.size();
        }
        return py::make_tuple(labels, winning, kept);
    }

    py::array_t<float> posterior(const py::array_t<uint8_t>& image, const py::array& probabilities,
                                 const Parameters& parameters) {
        const Picture picture = picture_of(image);
        const FloatArray array = floats_of(probabilities);
        py::array_t<float> posterior({array.labels, picture.height, picture.width});
        float* out = posterior.mutable_data();
        {
            py::gil_scoped_release release;
            const std::lock_guard<std::mutex> lock(mutex_);
            grid_.take_probabilities(array, kFloor);
            const Result& result = mean_field_.run(picture, grid_, parameters, true);
            const size_t pixels = result.label.size();
            if (int(result.kept.size()) < array.labels) std::fill(out, out + pixels * array.labels, 0.0f);
            constexpr size_t kBlock = 16;  // pixels, a cache line of `out`
            for (size_t first = 0; first < pixels; first += kBlock) {
                const size_t count = std::min(kBlock, pixels - first);
                const float* from = result.posterior.data() + first * result.labels;
                for (size_t c = 0; c < result.kept.size(); c++) {
                    float* to = out + result.kept[c] * pixels + first;
                    for (size_t i = 0; i < count; i++) to[i] = from[i * result.labels + c];
                }
            }
        }
        return posterior;
    }

    size_t vertices() const { return mean_field_.vertices(); }

  private:
    std::mutex mutex_;
    Grid grid_;
    MeanField mean_field_;
};

}  // namespace

PYBIND11_MODULE(dense_crf_core, module) {
    module.doc() = "Mean field of the fully connected CRF on a CPU core; pipeline.refine.crf is its public face.";
    module.attr("INTERFACE") = kInterface;
    module.attr("MAX_LABELS") = kMaxLabels;
    module.def("instruction_sets", [] {
        py::list names;
        for (const Kernels* kernels : runnable_kernels()) names.append(kernels->name);
        return names;
    }, "Vector instructions that this processor can run, the best first: these are used.");
    module.def("use_instructions", &use_kernels, py::arg("name"), "Use others of instruction_sets(), for tests.");
    py::class_<Parameters>(module, "Parameters")
        .def(py::init([](int iterations, float gaussian_weight, float gaussian_xy, float bilateral_weight,
                         float bilateral_xy, float bilateral_rgb, bool symmetric, float prune,
                         const std::vector<float>& label_costs) {
                 return Parameters{iterations,    gaussian_weight, gaussian_xy, bilateral_weight, bilateral_xy,
                                   bilateral_rgb, symmetric,       prune,       label_costs};
             }),
             py::kw_only(), py::arg("iterations"), py::arg("gaussian_weight"), py::arg("gaussian_xy"),
             py::arg("bilateral_weight"), py::arg("bilateral_xy"), py::arg("bilateral_rgb"), py::arg("symmetric"),
             py::arg("prune"), py::arg("label_costs"));
    py::class_<Core>(module, "Core")
        .def(py::init<>())
        .def_property_readonly("vertices", &Core::vertices, "Of the lattices of the last picture.")
        .def("label", &Core::label, py::arg("image"), py::arg("logits"), py::arg("rows"),
             py::arg("columns"), py::arg("parameters"),
             "Logits (C, h, w) -> the best label (H, W) uint8 and its posterior (H, W) float32.")
        .def("posterior", &Core::posterior, py::arg("image"), py::arg("probabilities"), py::arg("parameters"),
             "Probabilities (C, H, W) -> posterior (C, H, W) float32.");
}

}  // namespace crf
