// A pixel as the network wants it.
#pragma once

#include "host_device.h"

namespace deeplab_fast {

DEEPLAB_FAST_HD float normalise_value(float pixel, float mean, float std) { return (pixel - mean) / std; }

}  // namespace deeplab_fast
