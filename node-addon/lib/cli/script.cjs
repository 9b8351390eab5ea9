'use strict';

// Whether Node can run the script at all, before any worker is started for it; and modules for the primary.

const fs = require('node:fs');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { fileOf, isFile, javascriptOf } = require('./command.cjs');
const { Failure } = require('./failure.cjs');

const BRINGS_A_LOADER = /^(-r|--require|--import|--loader|--experimental-loader)(=|$)/;
const STRIP = '--experimental-strip-types';

/** Node options that TypeScript needs in addition; throws where this Node has no way to run it. */
function typescript(script, nodeOptions, node = process) {
  if (!/\.[mc]?ts$/.test(script)) return [];
  const given = [...nodeOptions, ...(node.env.NODE_OPTIONS ?? '').split(' ')];
  if (node.features.typescript || given.some((option) => BRINGS_A_LOADER.test(option))) return [];
  if (!node.allowedNodeEnvironmentFlags.has(STRIP)) {
    throw new Failure(`Node ${node.version} cannot run TypeScript (${path.basename(script)}): ` +
      'use Node 22.18 or later, or a loader, such as --node-options "--import tsx"');
  }
  // Node 22.6 to 22.17 has it behind an option; whoever switched it off by name shall see Node's own error.
  return given.some((option) => option.startsWith('--no-experimental-strip-types')) ? [] : [STRIP];
}

/** Why Node finds nothing there, and what to do. */
function whyNot(script, file) {
  const [, scheme] = /^([a-z][a-z0-9+.-]+):\/\//i.exec(script) ?? [];
  if (scheme?.toLowerCase() === 'file') return `${script} is a URL; give its path: ${decodeURI(script).replace(/^file:\/\/[^/]*/i, '')}`;
  if (scheme !== undefined) return `${script} is a URL; cluster-rs runs a program, so give the path of its file`;
  const found = fs.statSync(file, { throwIfNoEntry: false });
  if (found?.isDirectory()) {
    return `${file} is a directory without an index.js, and no package.json there has a "main" that exists; give the file of the program`;
  }
  if (found !== undefined && !found.isFile()) return `${file} is not a file`;
  return `no such file: ${file}`;
}

/** What `node <script>` would be given: the absolute path, found with the same rules; or the file of a command such as npm. */
function find(script) {
  const file = path.resolve(script);
  try {
    // The trailing slash of `node .` and `node folder/` is kept: with it Node looks for a folder only.
    require.resolve(/[/\\]$/.test(script) ? `${file}/` : file);
  } catch {
    const command = fileOf(script);
    if (command === undefined) throw new Failure(whyNot(script, file));
    return runnable(command);
  }
  return isFile(file) ? runnable(file) : file;
}

function runnable(file) {
  const found = javascriptOf(file);
  if (found !== null) return found;
  throw new Failure(`${file} is no program for Node; give the JavaScript file that it starts, or make it a script of package.json: ` +
    'cluster-rs npm -- run NAME');
}

/** Loads modules into this process, one after another, as scripts or ES modules. */
async function loadAll(files) {
  for (const file of files.map(find)) {
    try {
      await import(pathToFileURL(require.resolve(file)));
    } catch (error) {
      throw new Failure(`${file} failed (--primary): ${error?.stack ?? error}`);
    }
  }
}

module.exports = { find, loadAll, typescript };
