/** Writes oclif.manifest.json (so that help and dispatch load no command) and dist/help.txt, from the commands in dist/. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Plugin } from "@oclif/core/config";
import { settings } from "@oclif/core/settings";
import { root } from "../setup/run.mjs";
import { rootHelp } from "./root-help.mjs";

// A checkout has tsx, by which oclif would read the sources where NODE_ENV is `test` or `development`.
settings.enableAutoTranspile = false;

/** The manifest of the commands as they are now, whatever the file says. */
export async function currentManifest() {
  const plugin = new Plugin({ root, type: "core", ignoreManifest: true, errorOnManifestCreate: true });
  await plugin.load();
  return plugin.manifest;
}

/** The root help that belongs to a manifest. */
export function helpFor(manifest) {
  const { version, description } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return rootHelp({ version, description, commands: manifest.commands });
}

if (process.argv[1] === import.meta.filename) {
  const manifest = await currentManifest();
  replace(join(root, "oclif.manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  replace(join(root, "dist/help.txt"), helpFor(manifest));
}

function replace(path, text) {
  writeFileSync(`${path}.tmp`, text);
  renameSync(`${path}.tmp`, path);
}
