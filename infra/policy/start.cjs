// Pulumi loads a policy pack by `require` on this folder and knows no TypeScript in ES modules there; its `nodeargs` do not apply.
require("tsx/cjs/api").register();
require("./index.ts");
