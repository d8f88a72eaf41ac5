#pragma once

namespace efficientad {

/// The version of this library, for example "0.1.0".
const char* version();

}  // namespace efficientad
