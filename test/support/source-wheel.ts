import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { repository } from "./sandbox.js";

const script = `
import pathlib, sys, zipfile
source, target = map(pathlib.Path, sys.argv[1:3])
with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as wheel:
    for file in sorted(source.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            info = zipfile.ZipInfo(str(file.relative_to(source)))
            wheel.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED)
`;

/** The services of this checkout as one importable file, without a build: for tests below the release level. */
export function sourceWheel(directory: string): string {
  const target = join(directory, "gpuctl_serving-0.1.0-py3-none-any.whl");
  execFileSync("python3", ["-c", script, join(repository, "compose/services/src"), target]);
  return target;
}
