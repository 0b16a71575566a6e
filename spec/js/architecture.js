/** The rules for an architecture (spec/v1/architectures.md). */

import { MAX_PATH, argumentProblems, pathProblems } from "./arguments.js";
import { MOST, problem } from "./errors.js";
import { ARGUMENTS } from "./torch_nn.js";

const MAX_TREE_DEPTH = 16;
const MAX_TREE_NODES = 10_000;
/** Keys that make transformers run or download foreign code. */
const REFUSED_KEYS = [
  ...["auto_map", "trust_remote_code", "custom_pipelines", "quantization_config", "use_kernels", "kernel_config"],
  ...["attn_implementation", "experts_implementation", "attribute_map"],
  // Arguments of timm, which classes of transformers wrap.
  ...["cache_dir", "checkpoint_path", "exportable", "feature_cls", "kwargs_filter", "model_cls", "no_jit", "pretrained"],
  ...["pretrained_cfg", "pretrained_cfg_overlay", "pretrained_custom_load", "pretrained_filter_fn"],
  ...["pretrained_strict", "scriptable"],
];

const CONFIG = "architecture.config";
const FLOATS = ["Infinity", "-Infinity", "NaN"];

const REFUSED_BY_TIMM = [
  ...["cache_dir", "checkpoint_path", "exportable", "feature_cfg", "feature_cls", "features_only", "kwargs_filter"],
  ...["model_cfg", "model_cls", "model_name", "no_jit", "out_indices", "pruned", "scriptable", "variant"],
];

/** The check of each family. */
const FAMILIES = new Map([
  ["torch.nn", torchNn],
  ["transformers", transformers],
  ["timm", timm],
  ["python", python],
]);

/** Values at all levels of a configuration of transformers. */
const MAX_CONFIG_VALUES = 100_000;

/** Return all faults of an architecture. */
export function architectureProblems(family, className, config) {
  const check = FAMILIES.get(family);
  if (check && [...className].length > MAX_PATH) {
    return [fault("architecture.class", `has more than ${MAX_PATH} characters`)];
  }
  if (check) return check(className, config);
  const known = [...FAMILIES.keys()].join(", ");
  return [problem("family", "architecture.family", `the family ${JSON.stringify(family)} is unknown; known: ${known}`)];
}

const fault = (where, message) => problem("architecture", where, message);

/** Return how many of `left` values remain after those inside a value; below 0 if they are exceeded. */
function valuesLeft(value, most) {
  const inside = Array.isArray(value) ? value : value instanceof Map ? value.values() : [];
  let rest = most;
  for (const item of inside) {
    rest = valuesLeft(item, rest - 1);
    if (rest < 0) break;
  }
  return rest;
}

function torchNn(className, config) {
  const problems = [];
  const nodes = [{ where: "architecture", name: className, config, depth: 1 }];
  for (let count = 1; nodes.length && problems.length < MOST; count += 1) {
    const node = nodes.pop();
    if (node.depth > MAX_TREE_DEPTH || count > MAX_TREE_NODES) {
      const limit = `at most ${MAX_TREE_DEPTH} levels and ${MAX_TREE_NODES} modules`;
      return [...problems, fault(node.where, `the tree is too large: ${limit}`)];
    }
    if (node.name === "Sequential") {
      for (const child of children(node, problems)) nodes.push(child); // push(...many) would fill the stack
    } else if (!Object.hasOwn(ARGUMENTS, node.name)) {
      problems.push(fault(`${node.where}.class`, `the module ${JSON.stringify(node.name)} is not allowed by the format`));
    } else {
      for (const one of argumentFaults(node)) problems.push(one);
    }
  }
  return problems;
}

function children({ where: parent, config, depth }, problems) {
  const where = `${parent}.config`;
  const list = config.get("children");
  if (config.size !== 1 || !Array.isArray(list)) {
    problems.push(fault(where, "a Sequential has exactly a list of children"));
    return [];
  }
  const names = new Set();
  const found = [];
  list.forEach((node, index) => {
    const place = `${where}.children[${index}]`;
    if (!(node instanceof Map) || node.size !== 3 || !["name", "class", "config"].every((key) => node.has(key))) {
      problems.push(fault(place, "a child has exactly name, class and config"));
      return;
    }
    const [name, kind, inner] = [node.get("name"), node.get("class"), node.get("config")];
    if (typeof name !== "string" || !name || name.includes(".") || names.has(name)) {
      problems.push(fault(`${place}.name`, "a child's name is unique, not empty, without points"));
    } else if (typeof kind !== "string" || !(inner instanceof Map)) {
      problems.push(fault(place, "class is a string and config an object"));
    } else {
      names.add(name);
      found.push({ where: place, name: kind, config: inner, depth: depth + 1 });
    }
  });
  return found;
}

function argumentFaults({ where, name, config }) {
  const due = ARGUMENTS[name];
  const wrong = [...due.filter((key) => !config.has(key)), ...[...config.keys()].filter((key) => !due.includes(key))];
  if (wrong.length) {
    const which = wrong.sort().join(", ");
    return [fault(`${where}.config`, `${name} takes exactly its own arguments; wrong: ${which}`)];
  }
  return [...config]
    .filter(([, value]) => !isPlain(value))
    .map(([key]) => fault(`${where}.config.${key}`, "an argument is a number, boolean, string, null or integers"));
}

function isPlain(value) {
  if (Array.isArray(value)) return value.every((item) => typeof item === "bigint");
  return !(value instanceof Map);
}

const isName = (text) => /^[A-Za-z][A-Za-z0-9_]*$/.test(text);

function timm(className, config) {
  const problems = isName(className) ? [] : [fault("architecture.class", "must be the name of a timm model")];
  // Keys that could make timm read files or the network, wrap the model, or change its builder.
  const refused = (key) => key.startsWith("_") || key.startsWith("pretrained") || REFUSED_BY_TIMM.includes(key);
  return [...problems, ...argumentProblems("architecture.config", config, refused)];
}

function python(className, config) {
  return [...pathProblems("architecture.class", className), ...argumentProblems("architecture.config", config, null)];
}

function transformers(className, config) {
  const problems = isName(className) ? [] : [fault("architecture.class", "must be the name of a model class")];
  if (valuesLeft(config, MAX_CONFIG_VALUES) < 0) {
    return [...problems, fault("architecture.config", `contains more than ${MAX_CONFIG_VALUES} values`)];
  }
  lookForKeys(CONFIG, config, problems);
  return problems;
}

/** Depth first: canonical JSON is at most 64 deep, and can be wide. */
function lookForKeys(where, value, problems) {
  if (where !== CONFIG && isFloat(value)) return;
  if (Array.isArray(value)) {
    value.forEach((item, index) => lookForKeys(`${where}[${index}]`, item, problems));
  } else if (value instanceof Map) {
    for (const [key, item] of value) {
      if ((key.startsWith("_") || REFUSED_KEYS.includes(key)) && problems.length < MOST) {
        problems.push(fault(`${where}.${key}`, "a pack cannot set this key"));
      }
      lookForKeys(`${where}.${key}`, item, problems);
    }
  }
}

/** Whether an object represents a float that JSON does not support: its one key is not a setting. */
function isFloat(value) {
  return value instanceof Map && value.size === 1 && FLOATS.includes(value.get("__float__"));
}
