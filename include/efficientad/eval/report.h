#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "efficientad/data/dataset.h"
#include "efficientad/detect/model_bundle.h"
#include "efficientad/eval/evaluate.h"

namespace efficientad {

/// Everything an evaluation found, as it is written to report.json: image and pixel metrics (null
/// where the data set does not define them, with the reason), AUROC by kind of defect, counts, the
/// threshold and what it does to the test images, the options of this run, and of the model its
/// options and provenance (`bundle` nullptr, for maps of something else: without what concerns the
/// model). `options` are the resolved options of the run.
nlohmann::ordered_json make_report(const Evaluation& evaluation, const Dataset& dataset,
                                   const ModelBundle* bundle,
                                   const nlohmann::ordered_json& options);

/// The figures of a report as a table for people, some lines of plain text.
std::string report_table(const nlohmann::ordered_json& report);

/// The main figures of several reports, by category, and their means: a Markdown table.
std::string reports_table(const nlohmann::ordered_json& reports);

/// scores.csv: path, defect, label, score, decision and normal_share (which may be empty) of each
/// test image; label and decision are "good" or "anomalous".
std::string scores_csv(const Evaluation& evaluation, bool decided = true);

/// One line of a CSV file (RFC 4180: fields with comma, quote or line break are quoted), with its
/// line break.
std::string csv_line(const std::vector<std::string>& fields);

/// "anomalous" or "good", as reports and CSV files say it.
const char* decision_name(bool anomalous);

}  // namespace efficientad
