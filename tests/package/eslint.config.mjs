// For all JavaScript of the project; scripts/check.sh runs it from the top. It looks for mistakes, not for taste.
import js from '@eslint/js';

const names = (list) => Object.fromEntries(list.split(' ').map((name) => [name, 'readonly']));
const everywhere = names(
  'AbortController AbortSignal Buffer TextDecoder TextEncoder URL URLSearchParams clearImmediate clearInterval ' +
  'clearTimeout console fetch performance process queueMicrotask setImmediate setInterval setTimeout structuredClone',
);

export default [
  { ignores: ['**/node_modules/', 'target/'] },
  js.configs.recommended,
  {
    files: ['**/*.cjs', '**/*.js', '**/*.mjs'],
    languageOptions: { ecmaVersion: 2023, globals: everywhere },
    rules: {
      'array-callback-return': 'error',
      'eqeqeq': ['error', 'always', { null: 'ignore' }],
      'no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      'no-control-regex': 'off', // What a terminal is sent is tested.
      'no-empty': ['error', { allowEmptyCatch: true }],
      'no-var': 'error',
      'prefer-const': 'error',
    },
  },
  {
    files: ['**/*.cjs', '**/*.js'],
    languageOptions: { sourceType: 'commonjs', globals: names('__dirname __filename exports module require') },
    rules: { strict: ['error', 'global'] },
  },
  { files: ['node-addon/**'], rules: { 'max-lines': ['error', 400] } },
];
