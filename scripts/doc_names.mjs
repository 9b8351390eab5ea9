// Every name in a document is a name of the project: paths, cl_* and CL_*, --options, a::b in backquotes, and the targets of links.
// `file::case` is for named_tests.sh. The changelog tells of what was, so it is not asked.

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(path.join(path.dirname(fileURLToPath(import.meta.url)), '..'));

// Options of programs that are not ours, and files that a document tells its reader to make.
const FOREIGN_OPTIONS = new Set(`
  --allow-addons --cflags --env-file --format --import --inspect --kill-who --libs --nocapture --omit-lockfile-registry-resolved --require --time --watch
`.trim().split(/\s+/));
const FOREIGN_FILES = new Set(['app.js', 'ecosystem.config.js', 'mixed.c', 'npm-cli.js', 'server.ts']);
const KNOWN_ENDING = /\.(c|h|rs|cjs|mjs|js|cts|mts|ts|sh|py|md|toml|json|jsonl|tsv|service|svg|html)$/;

function projectFiles() {
  try {
    const list = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return list.split('\0').filter((file) => file !== '' && existsSync(file));
  } catch {
    // An unpacked archive.
    return readdirSync('.', { recursive: true }).filter((file) =>
      !/(^|\/)(target|node_modules)(\/|$)/.test(file) && statSync(file).isFile());
  }
}

const files = projectFiles();
const places = new Set(files.flatMap((file) => {
  const parts = file.split('/');
  return parts.map((_, i) => parts.slice(0, i + 1).join('/'));
}));
const baseNames = new Set(files.map((file) => path.basename(file)));
const documents = files.filter((file) => file.endsWith('.md') && !path.basename(file).startsWith('CHANGELOG'));

function withoutComments(file) {
  const text = readFileSync(file, 'utf8');
  if (/\.(sh|py|toml)$/.test(file)) return text.replace(/^\s*#.*$/gm, '');
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[^:"'])\/\/.*$/gm, '$1');
}

const code = files.filter((file) => /\.(c|h|rs|cjs|mjs|js|sh)$/.test(file)).map((file) => [file, withoutComments(file)]);
const words = new Set(code.flatMap(([, text]) => text.match(/\b(?:cl|CL)_\w+/g) ?? []));

// The fields of the header's structs.
const fields = new Map();
for (const [, body, name] of withoutComments('include/cluster.h').matchAll(/typedef struct \w*\s*\{([^}]*)\}\s*(cl_\w+_t);/g)) {
  fields.set(name, new Set(body.match(/\w+(?=\)?[;,[(])/g)));
}

// What our command lines take: an option as it is compared with, or a key of cluster-rs's table.
const options = new Set(code.filter(([file]) => /(^|\/)options\.(rs|cjs)$/.test(file)).flatMap(([file, text]) =>
  file.endsWith('.rs') ? text.split('#[cfg(test)]')[0].match(/(?<=")--[a-z][a-z-]*(?=")/g) ?? [] :
    [...text.matchAll(/^ {2}'([a-z-]+)': \{ value:/gm)].map(([, name]) => `--${name}`)));

// Where each type and module of the engine and of the C interface is defined or implemented.
const containers = new Map();
const define = (name, text) => containers.set(name, [...containers.get(name) ?? [], text]);
for (const [file, text] of code.filter(([name]) => /^(core|capi)\/src\/.*\.rs$/.test(name))) {
  const folders = path.dirname(file).split('/').slice(2);
  const own = path.basename(file, '.rs');
  for (const name of new Set(own === 'mod' || own === 'lib' ? folders : [...folders, own])) define(name, `${text}\nmod ${own}`);
  for (const name of new Set([...text.matchAll(/\b(?:struct|enum|trait|type|impl(?:<[^>]*>)?(?: [\w:<>']+ for)?) (\w+)/g)]
    .map(([, found]) => found))) define(name, text);
}

// A member is defined there: an item, or a field or variant in a line of its own.
const has = (text, word) => new RegExp(`\\b(?:fn|mod|struct|enum|trait|type|const|static) ${word}\\b|` +
  `^\\s*(?:pub(?:\\([^)]*\\))? )?${word}(?::|,|\\(| \\{| =|$)`, 'm').test(text);

function wrongRust(name) {
  const [, head, list] = /^(.*?)(?:::\{(.*)\})?$/.exec(name);
  const parts = head.replace(/^(?:crate|cluster_core)::/, '').split('::');
  for (const last of list === undefined ? [undefined] : list.split(/,\s*/)) {
    const whole = last === undefined ? parts : [...parts, last];
    if (whole[0] === 'std' || whole.length < 2) continue;
    for (let i = 0; i + 1 < whole.length; i++) {
      if (!(containers.get(whole[i]) ?? []).some((text) => has(text, whole[i + 1]))) return whole.join('::');
    }
  }
  return undefined;
}

function expand(text) {
  const found = /^(.*)\{([^{}]*,[^{}]*)\}(.*)$/.exec(text);
  return found === null ? [text] : found[2].split(',').flatMap((part) => expand(found[1] + part.trim() + found[3]));
}

function isPlace(place) {
  const plain = path.normalize(place).replace(/\/$/, '');
  if (plain === '.' || places.has(plain)) return true;
  if (!/[*?[]/.test(plain)) return false;
  const pattern = plain.replace(/[.+^$()|\\]/g, '\\$&').replace(/\*+/g, '[^/]*').replace(/\?/g, '[^/]');
  return [...places].some((one) => new RegExp(`^${pattern}$`).test(one));
}

function wrongPath(document, text) {
  const [first] = text.split('/');
  if (!/^[\w.@*?+[\]{},-]+(\/[\w.@*?+[\]{},-]+)*\/?$/.test(text) || first === 'target' || text.startsWith('./')) return false;
  if (!text.includes('/')) return KNOWN_ENDING.test(text) && !text.startsWith('.') &&
    !FOREIGN_FILES.has(text) && ![...expand(text)].every((one) => baseNames.has(one) || /[*?]/.test(one));
  const bases = ['.', path.dirname(document), 'tests'];
  const known = KNOWN_ENDING.test(text) || bases.some((base) => places.has(path.normalize(`${base}/${first}`)));
  return known && !expand(text).every((one) => bases.some((base) => isPlace(`${base}/${one}`)));
}

function* wrongNames(document, span) {
  // `file::case` and a place in the C test's own words.
  if (/\.[a-z]+::/.test(span)) return;
  for (const name of span.match(/\b(?:cl|CL)_\w*\*?/g) ?? []) {
    const known = name.endsWith('*') || name.endsWith('_') ?
      [...words].some((word) => word.startsWith(name.replace('*', ''))) : words.has(name);
    if (!known) yield name;
  }
  for (const [, type, field] of span.matchAll(/\b(cl_\w+_t)\.(\w+)/g)) {
    if (!(fields.get(type)?.has(field) ?? false)) yield `${type}.${field}`;
  }
  for (const [, name] of span.matchAll(/(?:^|[\s"'[])(--[a-z][a-z-]*)/g)) {
    if (!options.has(name) && !FOREIGN_OPTIONS.has(name)) yield name;
  }
  for (const [name] of span.matchAll(/\b[A-Za-z_]\w*(?:::\w+)+(?:::\{[^}]*\})?|\b[A-Za-z_]\w*::\{[^}]*\}/g)) {
    const wrong = wrongRust(name);
    if (wrong !== undefined) yield wrong;
  }
  const parts = span.split(/\s+/);
  for (const part of parts) {
    if ((parts.length === 1 || part.includes('/')) && wrongPath(document, part)) yield part;
  }
}

const slugs = new Map();
function anchors(file) {
  if (!slugs.has(file)) {
    slugs.set(file, new Set([...readFileSync(file, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
      title.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').trim().replaceAll(' ', '-'))));
  }
  return slugs.get(file);
}

function* wrongLinks(document, line) {
  for (const [, target] of line.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const [name, anchor] = target.split('#');
    const place = name === '' ? document : path.join(path.dirname(document), name);
    if (!isPlace(place)) yield target;
    else if (anchor !== undefined && !anchors(place).has(anchor)) yield target;
  }
}

let count = 0;
let wrong = 0;
for (const document of documents) {
  let fenced = false;
  readFileSync(document, 'utf8').split('\n').forEach((line, i) => {
    if (/^\s*```/.test(line)) fenced = !fenced;
    if (fenced) return;
    const spans = [...line.matchAll(/(`+)(.+?)\1(?!`)/g)].map(([, , span]) => span.trim());
    count += spans.length;
    const found = [...spans.flatMap((span) => [...wrongNames(document, span)]), ...wrongLinks(document, line.replace(/(`+).+?\1/g, ''))];
    for (const name of new Set(found)) {
      wrong += 1;
      console.log(`${document}:${i + 1}: ${name} does not exist`);
    }
  });
}
if (count < 500 || options.size < 15 || fields.size < 4) {
  console.log(`only ${count} names, ${options.size} options, ${fields.size} structs were found; has their form changed?`);
  wrong += 1;
}
process.exitCode = wrong === 0 ? 0 : 1;
