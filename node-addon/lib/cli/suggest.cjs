'use strict';

// Which of some words was meant by a misspelt one.

/** How many letters differ: one too many, one too few, another one, or two that changed places. */
function distance(a, b) {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    rows.push([i]);
    for (let j = 1; j <= b.length; j++) {
      const replaced = rows[i - 1][j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? rows[i - 2][j - 2] + 1 : Infinity;
      rows[i].push(Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, replaced, swapped));
    }
  }
  return rows[a.length][b.length];
}

/** The known word that begins with this one or differs from it in a third of its letters at most; undefined if there is none. */
function nearest(word, known) {
  // A long word is none of ours, and would take long.
  if (word.length < 3 || word.length > 30) return undefined;
  const small = word.toLowerCase();
  const near = known.map((name) => ({ name, far: name.startsWith(small) ? 0 : distance(small, name) }))
    .filter(({ name, far }) => far <= Math.floor(name.length / 3));
  return near.sort((a, b) => a.far - b.far)[0]?.name;
}

module.exports = { nearest };
