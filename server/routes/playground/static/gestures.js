// Wheel, pointers, pinches and keys on the picture and its divider.

const STEP = 1.25;
const PAN = 40; // CSS pixels for an arrow key

// Calls point(x, y, byKeys) with the pixel of the picture that is looked at, or nothing.
export function listen(viewer, divider, point) {
  const { canvas } = viewer;
  const pointers = new Map();

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [
      (event.clientX - box.left) * viewer.density,
      (event.clientY - box.top) * viewer.density,
    ];
  };
  const lookAtMiddle = () => point(...viewer.middle, true);

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      // A pinch on a touchpad comes as a wheel with Ctrl, in small steps.
      const pixels = event.deltaY * (event.deltaMode ? 33 : 1) * (event.ctrlKey ? 5 : 1);
      viewer.zoomTo(viewer.scale * Math.exp(-pixels / 500), ...place(event));
      point(...viewer.pixelAt(...place(event)));
    },
    { passive: false },
  );

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    viewer.crossed = false;
    point(...viewer.pixelAt(...place(event)));
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    const before = pointers.get(event.pointerId);
    if (before && pointers.size === 1) viewer.move(now[0] - before[0], now[1] - before[1]);
    if (before && pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      pinch(viewer, other, before, now);
    }
    if (before) pointers.set(event.pointerId, now);
    point(...viewer.pixelAt(...now));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("pointerleave", () => point());
  canvas.addEventListener("dblclick", (event) => viewer.zoomTo(viewer.scale * 2, ...place(event)));

  const keys = {
    ArrowLeft: () => viewer.move(PAN * viewer.density, 0),
    ArrowRight: () => viewer.move(-PAN * viewer.density, 0),
    ArrowUp: () => viewer.move(0, PAN * viewer.density),
    ArrowDown: () => viewer.move(0, -PAN * viewer.density),
    "+": () => viewer.zoomTo(viewer.scale * STEP),
    "=": () => viewer.zoomTo(viewer.scale * STEP),
    "-": () => viewer.zoomTo(viewer.scale / STEP),
    0: () => viewer.fit(),
    1: () => viewer.zoomTo(1),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    viewer.crossed = true;
    keys[event.key]();
    lookAtMiddle();
  });
  canvas.addEventListener("blur", () => {
    viewer.crossed = false;
    point();
    viewer.redraw();
  });
  // One finger scrolls the page while the whole picture is in sight, and moves the picture else.
  viewer.addEventListener("drawn", () => {
    canvas.style.touchAction = viewer.fitted ? "pan-y" : "none";
  });

  listenToDivider(viewer, divider);
}

// The point between both fingers stays below them.
function pinch(viewer, other, before, now) {
  const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
  viewer.move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  viewer.zoomTo(
    (viewer.scale * apart(other, now)) / apart(other, before),
    (other[0] + now[0]) / 2,
    (other[1] + now[1]) / 2,
  );
}

function listenToDivider(viewer, divider) {
  const put = (share) => {
    viewer.divider = Math.min(Math.max(share, 0), 1);
    divider.style.left = `${viewer.divider * 100}%`;
    divider.setAttribute("aria-valuenow", Math.round(viewer.divider * 100));
    viewer.redraw();
  };
  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = viewer.canvas.getBoundingClientRect();
    put((event.clientX - box.left) / box.width);
  });
  const keys = {
    ArrowLeft: -0.02,
    ArrowDown: -0.02,
    ArrowRight: 0.02,
    ArrowUp: 0.02,
    Home: -1,
    End: 1,
  };
  divider.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    put(viewer.divider + keys[event.key]);
  });
  put(0.5);
}
