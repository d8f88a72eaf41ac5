#pragma once

namespace efficientad::internal {

/// The files of src/eval/report_page, of which html_report() makes its pages.
const char* report_page();
const char* report_index();
const char* report_style();
const char* report_script();

}  // namespace efficientad::internal
