# Finds LibTorch without needing CUDA, and defines LibTorch::LibTorch (torch_cpu and c10 only).
#
# Looks, in this order, in
#   LIBTORCH_ROOT  a folder with include/ and lib/: the `torch` folder of an unpacked PyPI wheel,
#                  site-packages/torch, or an unpacked LibTorch zip (CMake variable or environment)
#   Torch_DIR      <root>/share/cmake/Torch, as for LibTorch's own package file
#
# The wheel's own TorchConfig.cmake demands a CUDA toolkit, which nothing here needs: CUDA kernels
# are found at run time, in libtorch_cuda beside libtorch_cpu.
set(_libtorch_hints ${LIBTORCH_ROOT} $ENV{LIBTORCH_ROOT})
if(Torch_DIR)
  list(APPEND _libtorch_hints ${Torch_DIR}/../../..)
endif()

find_path(LibTorch_INCLUDE_DIR torch/csrc/api/include/torch/torch.h
          HINTS ${_libtorch_hints} PATH_SUFFIXES include NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${_libtorch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 HINTS ${_libtorch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)

foreach(_header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
  if(LibTorch_INCLUDE_DIR AND EXISTS ${LibTorch_INCLUDE_DIR}/${_header} AND NOT LibTorch_VERSION)
    set(_parts)
    foreach(_part MAJOR MINOR PATCH)
      file(STRINGS ${LibTorch_INCLUDE_DIR}/${_header} _line
           REGEX "define TORCH_VERSION_${_part} [0-9]+")
      string(REGEX MATCH "[0-9]+$" _number "${_line}")
      list(APPEND _parts ${_number})
    endforeach()
    list(JOIN _parts "." LibTorch_VERSION)
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run scripts/setup.sh, or name an existing one with -DLIBTORCH_ROOT=DIR")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  # The wheel brings headers of other libraries; its fmt would hide the distribution's, with which
  # spdlog was built. So the compiler sees a folder of links to all of its headers but those.
  set(_libtorch_include ${CMAKE_BINARY_DIR}/libtorch-include)
  file(REMOVE_RECURSE ${_libtorch_include})
  file(MAKE_DIRECTORY ${_libtorch_include})
  file(GLOB _entries RELATIVE ${LibTorch_INCLUDE_DIR} ${LibTorch_INCLUDE_DIR}/*)
  list(REMOVE_ITEM _entries fmt)
  foreach(_entry ${_entries})
    file(CREATE_LINK ${LibTorch_INCLUDE_DIR}/${_entry} ${_libtorch_include}/${_entry} SYMBOLIC)
  endforeach()
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION ${LibTorch_C10_LIBRARY})
  add_library(LibTorch::LibTorch SHARED IMPORTED)
  set_target_properties(LibTorch::LibTorch PROPERTIES
    IMPORTED_LOCATION ${LibTorch_CPU_LIBRARY}
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES
      "${_libtorch_include};${_libtorch_include}/torch/csrc/api/include"
    INTERFACE_INCLUDE_DIRECTORIES
      "${_libtorch_include};${_libtorch_include}/torch/csrc/api/include"
    INTERFACE_LINK_LIBRARIES LibTorch::c10
    # libtorch_cpu of the CUDA wheel names libcudart and libcupti in its own run path.
    INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
  find_library(LibTorch_CUDA_LIBRARY torch_cuda HINTS ${_libtorch_hints} PATH_SUFFIXES lib
               NO_DEFAULT_PATH)
  find_library(LibTorch_C10_CUDA_LIBRARY c10_cuda HINTS ${_libtorch_hints} PATH_SUFFIXES lib
               NO_DEFAULT_PATH)
  mark_as_advanced(LibTorch_CUDA_LIBRARY LibTorch_C10_CUDA_LIBRARY)
  # Only for a library that is opened where there is a GPU.
  if(LibTorch_CUDA_LIBRARY AND LibTorch_C10_CUDA_LIBRARY)
    add_library(LibTorch::c10_cuda SHARED IMPORTED)
    set_target_properties(LibTorch::c10_cuda PROPERTIES
      IMPORTED_LOCATION ${LibTorch_C10_CUDA_LIBRARY})
    add_library(LibTorch::cuda SHARED IMPORTED)
    set_target_properties(LibTorch::cuda PROPERTIES
      IMPORTED_LOCATION ${LibTorch_CUDA_LIBRARY}
      INTERFACE_LINK_LIBRARIES "LibTorch::c10_cuda;LibTorch::LibTorch")
  endif()
  get_filename_component(LibTorch_LIBRARY_DIR ${LibTorch_CPU_LIBRARY} DIRECTORY)
endif()
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY)
