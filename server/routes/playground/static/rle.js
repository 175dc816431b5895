// Reads the run lengths of masks as pycocotools writes them.

// Runs down the columns, by turns outside and inside. A number is in groups of five bits from the
// lowest on, each a character above "0" whose sixth bit says whether more follow; the last group's
// highest bit is the sign. From the fourth number on it is the difference to the last but one.
export function runs(text) {
  const counts = [];
  for (let at = 0; at < text.length;) {
    let value = 0,
      shift = 0,
      group;
    do {
      group = text.charCodeAt(at++) - 48;
      value |= (group & 31) << shift;
      shift += 5;
    } while (group & 32);
    if (group & 16) value |= -1 << shift;
    counts.push(counts.length > 2 ? value + counts.at(-2) : value);
  }
  return counts;
}

// Calls fill(column, first row, number of rows) for all that is inside.
export function fillRuns({ size: [height], counts }, fill) {
  let at = 0;
  runs(counts).forEach((length, i) => {
    const end = at + length;
    while (i % 2 && at < end) {
      const row = at % height;
      const rows = Math.min(end - at, height - row);
      fill((at - row) / height, row, rows);
      at += rows;
    }
    at = end;
  });
}
