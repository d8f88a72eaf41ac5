// A part of the declarations of gloo's header of this name; see ranks.cpp.
#pragma once
