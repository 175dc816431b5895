// Where a picture comes from: a drop, the clipboard, a file, the camera or an example.

import { ask, parsed } from "./api.js";
import { $, h } from "./dom.js";

// Calls take({name, blob, sample}) with each picture, and refuse(text) if there is none.
export function listen(take, refuse) {
  const chosen = (files, none) => {
    const [file] = files;
    if (!file) return refuse(none);
    take({ name: file.name || "pasted.png", blob: file, sample: "" });
  };
  $("file").addEventListener("change", (event) => {
    if (event.target.files.length) chosen(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
  listenToDrops(chosen);
  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input")) return;
    chosen(event.clipboardData.files, "There is no picture in the clipboard.");
  });
  if (navigator.clipboard?.read) {
    $("paste").hidden = false;
    $("paste").addEventListener("click", () => paste(take, refuse));
  }
  offerCamera(take, refuse);
}

function listenToDrops(chosen) {
  const shown = (on) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    shown(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) shown(false);
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    shown(false);
    chosen(
      event.dataTransfer.files,
      "That was no file. Save the picture first, then drop its file here.",
    );
  });
}

async function paste(take, refuse) {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((one) => one.startsWith("image/"));
      if (type) return take({ name: "pasted.png", blob: await item.getType(type), sample: "" });
    }
    refuse("There is no picture in the clipboard.");
  } catch {
    refuse("The browser does not let this page read the clipboard. Press Ctrl+V instead.");
  }
}

async function offerCamera(take, refuse) {
  const devices = await navigator.mediaDevices?.enumerateDevices().catch(() => []);
  if (!devices?.some((device) => device.kind === "videoinput")) return;
  const [dialog, video] = [$("shutter"), $("video")];
  $("camera").hidden = false;
  $("camera").addEventListener("click", async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: "environment", width: { ideal: 1920 } },
      });
    } catch (error) {
      return refuse(`The camera cannot be used: ${error.message}`);
    }
    $("take").disabled = true;
    dialog.showModal();
    await video.play();
    $("take").disabled = false;
  });
  $("leave").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  });
  $("take").addEventListener("click", () => {
    const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob(
      (blob) => {
        dialog.close();
        take({ name: "camera.jpg", blob, sample: "" });
      },
      "image/jpeg",
      0.92,
    );
  });
}

export async function sample(name) {
  const blob = await ask(`playground/samples/${encodeURIComponent(name)}`);
  return { name, blob, sample: name };
}

// Buttons for the examples; resolves when they are there.
export async function offerSamples(pick) {
  const names = await parsed(await ask("playground/samples.json"));
  $("samples").replaceChildren(
    ...names.map((name) => {
      const picture = h("img", {
        src: `playground/thumbnails/${name}`,
        alt: "",
        width: 56,
        height: 56,
        loading: "lazy",
      });
      const title = name.replace(/\.\w+$/, "").replaceAll("-", " ");
      const button = h(
        "button",
        { type: "button", title, "aria-label": `Example: ${title}` },
        picture,
      );
      button.addEventListener("click", () => pick(name));
      return button;
    }),
  );
}
