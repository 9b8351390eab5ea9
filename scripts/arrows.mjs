// Arrows of the code point down: no file uses one that stands above it, and no two use each other, also not by a way around.
//
//   node scripts/arrows.mjs
//
// The lists below say what stands above what, the highest first; those in one line do not know each other. The files of a folder may
// use each other as long as there is no circle. What a file of Rust only hands on (`pub use`) is no arrow; who uses it there has an
// arrow to where it stands. Tests are left out.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(path.join(path.dirname(fileURLToPath(import.meta.url)), '..'));

const core = [
  'lib',
  'process',
  'primary worker',
  'handle',
  'mechanism',
  'mailbox channel bind tally handback',
  'scoreboard wire',
  'env',
  'settings',
  'allow fleet options policy recycle restart',
  'address token',
  'error',
  'sys',
];

const addon = [
  'cli',
  'patch',
  'stock',
  'primary worker',
  'address connection',
  'query environment wrapper',
  'addon amounts names node-options',
];

// The rooms of the primary: a listen concerns a worker, and a worker has a link to talk over.
const rooms = ['primary/listen', 'primary/workers', 'primary/talk'];

// Of these two neither uses the other, though one stands above.
const strangers = ['worker handle', 'worker mechanism'];

// Known and to go: 'from -> to', as it is complained of.
const exceptions = new Set();

let wrong = 0;
const complain = (text) => {
  wrong++;
  console.log(text);
};

const files = (folder, ending) =>
  fs.readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(ending)).sort();

// -- Arrows between files: from the name of one to those of others.

// A file of Rust is named by its module: 'sys/poll', and the folder's own 'sys'.
const moduleOf = (name) => name.replace(/\.rs$/, '').replace(/\/mod$/, '');

// Without what is only there for tests, and without comments and texts in quotes.
const bare = (text) => {
  let code = text.replace(/"(\\.|[^"\\])*"|'(\\.|[^'\\])'|\/\/[^\n]*/gs, ' ');
  const test = /#\[cfg\((test|any\(test, feature = "fuzzing"\))\)\]\s*(#\[[^\]]*\]\s*)*/;
  for (let found; (found = test.exec(code));) {
    let end = found.index + found[0].length;
    for (let depth = 0; end < code.length; end++) {
      if (code[end] === '{') depth++;
      if (code[end] === '}' && --depth === 0) break;
      if (code[end] === ';' && depth === 0) break;
    }
    code = code.slice(0, found.index) + code.slice(end + 1);
  }
  return code;
};

// The paths of a `use`: a::{b, c::{self, d}} is a::b, a::c::self and a::c::d.
const paths = (tree) => {
  const at = tree.indexOf('{');
  if (at < 0) return [tree.trim()];
  const [head, parts] = [tree.slice(0, at).trim(), []];
  let depth = 0;
  let start = at + 1;
  for (let i = at + 1; i < tree.length; i++) {
    if (tree[i] === '{') depth++;
    if ((tree[i] === ',' || tree[i] === '}') && depth === 0) {
      parts.push(tree.slice(start, i));
      start = i + 1;
    }
    if (tree[i] === '}') depth--;
  }
  return parts.filter((part) => part.trim()).flatMap((part) => paths(part).map((rest) => head + rest));
};

const rust = (folder) => {
  const modules = new Map(files(folder, '.rs')
    .filter((name) => !/^fuzzing\/|(^|\/)tests(\/|\.rs$)/.test(name))
    .map((name) => [moduleOf(name), bare(fs.readFileSync(path.join(folder, name), 'utf8'))]));
  const handsOn = new Map();

  // What a path that is written in a module means, as a list of names from the root of the crate. `null`: nothing of ours.
  const absolute = (module, text) => {
    const names = text.split('::').map((name) => name.trim());
    const inside = module === 'lib' ? [] : module.split('/');
    if (names[0] === 'crate') return names.slice(1);
    if (names[0] === 'self') return [...inside, ...names.slice(1)];
    if (names[0] === 'super') {
      const up = names.findIndex((name) => name !== 'super');
      return [...inside.slice(0, inside.length - up), ...names.slice(up)];
    }
    return modules.has([...inside, names[0]].join('/')) ? [...inside, ...names] : null;
  };

  // The module in which what they name stands.
  const place = (names, seen = new Set()) => {
    let module = 'lib';
    for (let i = 0; i < names.length; i++) {
      const next = names.slice(0, i + 1).join('/');
      if (modules.has(next)) module = next;
      else {
        const on = handsOn.get(module).get(names[i]);
        if (!on || seen.has(`${module} ${names[i]}`)) break;
        seen.add(`${module} ${names[i]}`);
        return place([...on, ...names.slice(i + 1)], seen);
      }
    }
    return module;
  };

  const used = new Map();
  for (const [module, code] of modules) {
    const all = [];
    const own = new Map();
    const rest = code.replace(/\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);/g, (_, visible, tree) => {
      for (const text of paths(tree)) {
        const [wanted, alias] = text.split(/\s+as\s+/);
        const names = absolute(module, wanted);
        if (!names) continue;
        if (visible) own.set(alias ?? names.at(-1), names);
        else all.push(names);
      }
      return '';
    });
    handsOn.set(module, own);
    // What is handed on may be used here as well.
    for (const [name, names] of own) if (new RegExp(`\\b${name}\\b`).test(rest)) all.push(names);
    for (const [text] of rest.matchAll(/(?<![:\w])\w+(?:::\w+)+/g)) {
      const names = absolute(module, text);
      if (names) all.push(names);
    }
    used.set(module, all);
  }
  return new Map([...used].map(([module, all]) => [module, new Set(all.map((names) => place(names)))]));
};

const javascript = (folder) => {
  const arrows = new Map();
  for (const name of files(folder, '.cjs')) {
    const code = fs.readFileSync(path.join(folder, name), 'utf8').replace(/^\s*\/\/.*/gm, '');
    const to = [...code.matchAll(/\brequire\('(\.[^']+)'\)/g)].map((found) => path.join(path.dirname(name), found[1]));
    arrows.set(name, new Set(to.map((one) => one.replace(/(\.cjs)?$/, '.cjs'))));
  }
  return arrows;
};

// -- What is wrong with them.

const isIn = (name, folder) => name === folder || name === `${folder}.cjs` || name.startsWith(`${folder}/`);

// Each of the files gets the place in the list at which its folder stands.
const upwards = (arrows, list) => {
  const places = list.flatMap((line, at) => line.split(' ').map((folder) => ({ folder, at })));
  const placeOf = (name) => places.find(({ folder }) => isIn(name, folder));
  for (const [from, all] of arrows) {
    for (const to of all) {
      const [above, below] = [placeOf(from), placeOf(to)];
      if (!above || !below || above === below || above.at < below.at || exceptions.has(`${from} -> ${to}`)) continue;
      complain(`${from} -> ${to}: an arrow that does not point down`);
    }
  }
  return [...arrows.keys()].filter((name) => !placeOf(name));
};

// Tarjan's algorithm: each set of files from which all the others of it can be reached.
const circles = (arrows) => {
  const [index, low, stack, found] = [new Map(), new Map(), [], []];
  const visit = (name) => {
    index.set(name, index.size);
    low.set(name, index.get(name));
    stack.push(name);
    for (const to of arrows.get(name) ?? []) {
      if (to === name || exceptions.has(`${name} -> ${to}`)) continue;
      if (!index.has(to)) visit(to);
      if (stack.includes(to)) low.set(name, Math.min(low.get(name), low.get(to)));
    }
    if (low.get(name) !== index.get(name)) return;
    const set = stack.splice(stack.indexOf(name));
    if (set.length > 1) found.push(set);
  };
  for (const name of arrows.keys()) if (!index.has(name)) visit(name);
  for (const set of found) {
    const inside = set.flatMap((from) =>
      [...arrows.get(from)].filter((to) => to !== from && set.includes(to)).map((to) => `${from} -> ${to}`));
    complain(`a circle of ${set.length} files: ${inside.join(', ')}`);
  }
};

const meetings = (arrows) => {
  for (const [one, other] of strangers.map((line) => line.split(' '))) {
    for (const [from, all] of arrows) {
      for (const to of all) {
        if ((isIn(from, one) && isIn(to, other)) || (isIn(from, other) && isIn(to, one))) {
          complain(`${from} -> ${to}: ${one} and ${other} are not to know each other`);
        }
      }
    }
  }
};

const engine = rust('core/src');
for (const name of upwards(engine, core)) complain(`core/src/${name}: it has no place in the list`);
upwards(engine, rooms);
meetings(engine);
circles(engine);

const lib = javascript('node-addon/lib');
upwards(lib, addon);
circles(lib);

const count = (arrows) => [...arrows.values()].reduce((sum, all) => sum + all.size, 0);
if (count(engine) < 200 || count(lib) < 40) complain('few arrows are seen; was the way of writing them changed?');

process.exit(wrong ? 1 : 0);
