// Lays out what a release publishes: node scripts/npm-dirs.mjs OUT [ADDON.node ...]
//   OUT/cluster-rs                 the JavaScript, with the platform packages as optional dependencies of its version
//   OUT/cluster-rs-linux-x64-gnu   one for each addon: the binary, and os, cpu and libc for npm to choose by
// Without names it takes the addons next to package.json. The package.json of the checkout does not name the platform
// packages: there the addon is built.
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const home = dirname(dirname(fileURLToPath(import.meta.url)));
const LIBCS = { gnu: 'glibc', musl: 'musl' };
const LICENCES = ['LICENSE-MIT', 'LICENSE-APACHE'];

function fail(message) {
  console.error(`npm-dirs: ${message}`);
  process.exit(1);
}

function write(folder, manifest) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}

function copy(names, folder) {
  mkdirSync(folder, { recursive: true });
  for (const name of names) cpSync(join(home, name), join(folder, name), { recursive: true });
}

const [out, ...named] = process.argv.slice(2);
if (!out) fail('usage: node scripts/npm-dirs.mjs OUT [ADDON.node ...]');
const addons = named.length > 0
  ? named.map((name) => resolve(name))
  : readdirSync(home).filter((name) => name.endsWith('.node')).map((name) => join(home, name));
if (addons.length === 0) fail('there is no addon; run "npm install" in node-addon first');

const { scripts: _scripts, ...main } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'));
const platforms = [];
for (const addon of addons) {
  const [, os, cpu, libc] = /^cluster-rs\.([a-z0-9]+)-([a-z0-9]+)-(gnu|musl)\.node$/.exec(basename(addon)) ?? [];
  if (!os) fail(`${addon} is not named cluster-rs.<os>-<cpu>-<gnu or musl>.node`);
  if (!existsSync(addon)) fail(`${addon} is not there`);
  const name = `${main.name}-${os}-${cpu}-${libc}`;
  const folder = join(out, name);
  copy(LICENCES, folder);
  cpSync(addon, join(folder, basename(addon)));
  write(folder, {
    name,
    version: main.version,
    description: `The native addon of ${main.name} for ${os}-${cpu} with ${LIBCS[libc]}`,
    license: main.license,
    main: basename(addon),
    files: [basename(addon)],
    engines: main.engines,
    os: [os],
    cpu: [cpu],
    libc: [LIBCS[libc]],
  });
  platforms.push(name);
}

const released = main.files.filter((name) => name !== '*.node' && !name.startsWith('scripts/'));
copy([...released, 'README.md'], join(out, main.name));
write(join(out, main.name), {
  ...main,
  files: released,
  optionalDependencies: Object.fromEntries(platforms.map((name) => [name, main.version])),
});
console.log([main.name, ...platforms].map((name) => join(out, name)).join('\n'));
