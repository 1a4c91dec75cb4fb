import { temporaryDirectories } from "../../support/temporary.js";
import { worldOn } from "./remote-world.js";
import { describeState } from "./state-suite.js";

const temporary = temporaryDirectories();
const { PATH } = process.env;

describeState("on one host", "lease", () => worldOn(temporary(), ["gpu-1"], PATH));
describeState("on three hosts", "lease", () => worldOn(temporary(), ["gpu-2", "gpu-1", "gpu-3"], PATH));
