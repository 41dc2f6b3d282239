#include "vector_level.h"

namespace deeplab_fast {

VectorLevel vector_level() {
#ifdef DEEPLAB_FAST_X86
  const std::string allowed = vector_extension();
  if (allowed == "generic" || !__builtin_cpu_supports("fma")) return VectorLevel::generic;
  if (allowed == "AVX2" || !__builtin_cpu_supports("avx512dq")) return VectorLevel::avx2;
  return VectorLevel::avx512;
#else
  return VectorLevel::generic;
#endif
}

}  // namespace deeplab_fast
