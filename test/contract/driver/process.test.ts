import { describeDriver } from "./driver-suite.js";
import { ProcessWorld } from "./process-world.js";

describeDriver("process", () => ProcessWorld.create());
