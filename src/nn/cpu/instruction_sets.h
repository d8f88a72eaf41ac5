#pragma once

#include <hwy/targets.h>

namespace efficientad::cpu {

/// Calls `work` once for each instruction set that this machine has and the program was compiled
/// for, the best first; meanwhile HWY_DYNAMIC_DISPATCH chooses that one. For tests: other threads
/// are not to compute meanwhile.
template <class Work>
void for_each_instruction_set(Work&& work) {
  const auto supported = hwy::SupportedTargets();
  for (const auto target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    work();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(supported);
}

}  // namespace efficientad::cpu
