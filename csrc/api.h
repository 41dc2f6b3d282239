// The whole native surface of deeplab_fast: plain C++17, no Python and no torch.
//
// Conventions for every function declared here: the caller allocates and checks; tensors arrive as a
// raw pointer, sizes, and strides in elements; device functions also take a stream as void*.
#pragma once

#include <map>
#include <string>

namespace deeplab_fast {

// What this build was made with: compiler and instruction sets, by name.
std::map<std::string, std::string> build_info();

}  // namespace deeplab_fast
