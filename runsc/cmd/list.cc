#include <cstdio>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "runsc/cmd/commands.h"
#include "runsc/cmd/common.h"

namespace caisson::cmd {

absl::StatusOr<int> List(const Args& args) {
  ASSIGN_OR_RETURN(std::vector<std::string> ids, runsc::ContainerDir::List(args.options.root));
  std::vector<std::vector<std::string>> rows = {
      {"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  oci::Json json = oci::Json::Array();
  for (const std::string& id : ids) {
    Args one = args;
    one.positional = {id};
    absl::StatusOr<Opened> container = OpenContainer(one, /*lock=*/false);
    if (!container.ok()) {
      // One that is just being deleted, or is damaged, does not hide the others.
      LOG_WARNING(container.status().message());
      continue;
    }
    runsc::Status status = runsc::StatusOf(container->dir, container->state);
    std::string owner = UserName(container->state.owner_uid);
    oci::Json state = runsc::OciState(container->state, status);
    state.Set("owner", oci::Json(owner));
    rows.push_back({id, absl::StrCat(*state.Find("pid")->AsUnsigned()),
                    std::string(runsc::StatusName(status)), container->state.bundle,
                    container->state.created, owner});
    json.Append(std::move(state));
  }
  if (args.quiet) {
    for (size_t i = 1; i < rows.size(); ++i) RETURN_IF_ERROR(Print(rows[i][0] + "\n"));
    return 0;
  }
  if (args.format == "json") {
    // An empty list is "null" for runc, whose readers take either.
    RETURN_IF_ERROR(Print(json.ToText() + "\n"));
    return 0;
  }
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&line, row[i]);
      if (i + 1 < row.size()) line.append(std::max<size_t>(widths[i] + 3, 12) - row[i].size(), ' ');
    }
    RETURN_IF_ERROR(Print(line + "\n"));
  }
  return 0;
}

}  // namespace caisson::cmd
