import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

/** What a layer may not import. The import graph as a whole is proven by test/unit/layers.test.ts; this is the early warning. */
function layer(files, groups) {
  const patterns = groups.map(([group, message]) => ({ group, message }));
  return { files, rules: { "no-restricted-imports": ["error", { patterns }] } };
}

const noAdapters = [["**/adapters/**"], "only wiring.ts and wiring/ see adapters"];
const noWiring = [
  ["**/wiring.js", "**/wiring/**"],
  "use cases get their adapters through ports; commands use BaseCommand.context()",
];
const noCommands = [["**/commands/**", "**/base-command.js", "@oclif/**"], "commands call use cases, never the other way round"];
const noApp = [["**/app/**"], "the domain knows no use case"];

export default defineConfig(
  { ignores: ["dist*/", "node_modules/", "**/.venv/", "compose/", "test/golden/"] },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { project: ["tsconfig.test.json"], tsconfigRootDir: import.meta.dirname } },
    rules: {
      "no-console": "error",
      "no-restricted-properties": [
        "error",
        {
          object: "process",
          property: "exit",
          message: "set the exit code on Io and return: output that is still buffered would be lost",
        },
      ],
      eqeqeq: ["error", "always", { null: "ignore" }],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      // Index signatures are read with brackets (noPropertyAccessFromIndexSignature), so that a typo in a field shows.
      "@typescript-eslint/dot-notation": "off",
      // A number or boolean in a template says what it says; objects and nullish values stay errors.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      // Interfaces for shapes, types for unions: both are used, each for what it reads best as.
      "@typescript-eslint/consistent-type-definitions": "off",
      // `||` on purpose: an empty environment variable counts as unset.
      "@typescript-eslint/prefer-nullish-coalescing": ["error", { ignorePrimitives: { string: true, boolean: true } }],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      // Commands and state machines of other processes read best as `void promise` where nobody waits.
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true, ignoreVoidOperator: true }],
    },
  },
  layer(
    ["cli/src/domain/**/*.ts"],
    [
      noAdapters,
      noWiring,
      noCommands,
      noApp,
      [["**/ports.js", "**/io.js"], "the domain has no outside"],
      [["node:*", "!node:crypto"], "the domain has no clock, environment or I/O (hashing is pure)"],
    ],
  ),
  layer(["cli/src/app/**/*.ts", "cli/src/bench/**/*.ts"], [noAdapters, noWiring, noCommands]),
  layer(["cli/src/commands/**/*.ts", "cli/src/base-command.ts"], [noAdapters]),
  layer(["cli/src/ports.ts", "cli/src/ports/**/*.ts"], [noAdapters, noWiring, noCommands, noApp]),
  layer(["cli/src/adapters/**/*.ts"], [noWiring, noCommands]),
  layer(
    ["infra/lib/**/*.ts", "infra/policy/checks.ts"],
    [
      [["@pulumi/**"], "what decides knows nothing of Pulumi: it is tested without it"],
      [["node:*", "!node:crypto", "!node:zlib"], "pure functions: files are read in scripts.ts"],
      [["**/components/**", "**/stack.js", "**/scripts.js"], "components call the library, never the other way round"],
    ],
  ),
  {
    files: ["cli/src/domain/**/*.ts"],
    rules: {
      "no-restricted-globals": ["error", "process", "setTimeout", "setInterval", "fetch", "performance"],
      "no-restricted-syntax": [
        "error",
        { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: "the domain has no clock" },
        { selector: "CallExpression[callee.object.name='Date'][callee.property.name='now']", message: "the domain has no clock" },
        {
          selector: "CallExpression[callee.object.name='Math'][callee.property.name='random']",
          message: "the domain has no chance",
        },
      ],
    },
  },
  {
    files: ["test/**/*.ts"],
    rules: {
      // Tests reach into what they have just built.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/require-await": "off",
    },
  },
  {
    files: ["**/*.{js,mjs}"],
    rules: { "no-unused-vars": "error", "prefer-const": "error", "no-var": "error", eqeqeq: "error", "no-unreachable": "error" },
  },
);
