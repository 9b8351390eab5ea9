'use strict';

// The package's own files that workers load. Their folder may be gone, for instance when a release was replaced and removed while the
// primary goes on. Then they are looked for where the program would find them now.

const fs = require('node:fs');
const path = require('node:path');

const HOME = path.join(__dirname, '..');

let home = HOME;
let told = false;

function tellOnce() {
  if (told) return;
  told = true;
  const text = `the files of cluster-rs are gone from ${HOME}; new workers get their connections through Node's own channel until ` +
    'they are there again or the program is restarted';
  process.emitWarning(text, { type: 'ClusterWarning', code: 'CLUSTER_RS_ENGINE' });
}

function has(folder, name) {
  return fs.existsSync(path.join(folder, name));
}

/** The folders of node_modules that a script at this path sees. Links are followed anew: require.resolve remembers them. */
function* installedFor(script) {
  for (let at = path.dirname(path.resolve(script)); ; at = path.dirname(at)) {
    yield path.join(at, 'node_modules', 'cluster-rs');
    if (at === path.dirname(at)) return;
  }
}

// Node keeps the path as it was typed.
function* candidates(scripts) {
  for (const script of scripts) {
    yield* installedFor(script);
    try {
      // A link in node_modules/.bin leads to the package.
      yield path.dirname(path.dirname(fs.realpathSync(script)));
    } catch {
      // It is gone.
    }
  }
  for (const folder of (process.env.NODE_PATH ?? '').split(path.delimiter)) {
    if (folder !== '') yield path.join(folder, 'cluster-rs');
  }
}

/** The path of a file of the package; undefined if it is nowhere. `script`: what the workers run. */
function ownFile(name, script) {
  if (has(home, name)) return path.join(home, name);
  const scripts = [process.argv[1], script].filter((given) => typeof given === 'string');
  for (const folder of candidates(scripts)) {
    if (!has(folder, name) || !has(folder, 'register.cjs')) continue;
    home = fs.realpathSync(folder);
    return path.join(home, name);
  }
  tellOnce();
  return undefined;
}

module.exports = { ownFile };
