"use strict";
// Plays a packed clip (core/export/packed.py has the format) with PlayCanvas. Two splat containers take turns: the next
// frame is filled into the hidden one, which is shown once its splats are sorted, so no frame is drawn in the order of
// another. The camera belongs to the viewer of the page and never moves with the frames.

const byId = (id) => document.getElementById(id);
const settings = JSON.parse(byId("settings").textContent);

function fail(text) {
  byId("note").hidden = false;
  byId("note").textContent = text;
}

// The bytes of an embedded base64 text, which is then dropped to free its memory.
function takeBytes(id) {
  const text = atob(byId(id).textContent);
  byId(id).remove();
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

class Clip {
  constructor(bytes) {
    this.bytes = bytes;
    this.unpacked = new Map(); // number of a group -> promise of its frames; the last three
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const length = view.getUint32(12, true);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(20, 20 + length)));
    const [count, per = 1] = header.frame_rate.split("/").map(Number);
    this.rate = count / per;
    this.steps = header.steps;
    this.groups = [];
    this.places = []; // of each frame: group, place in it
    for (let at = 20 + length; this.places.length < header.num_frames; ) {
      const head = view.getUint32(at, true);
      const frames = head & 0x7fffffff;
      const start = at + 12 + 4 * frames;
      const counts = Array.from({ length: frames }, (_, k) => view.getUint32(at + 12 + 4 * k, true));
      counts.forEach((_, k) => this.places.push([this.groups.length, k]));
      at = start + view.getUint32(at + 4, true);
      this.groups.push({ counts, start, end: at, inTime: head >= 2 ** 31 });
    }
    this.largest = Math.max(1, ...this.groups.flatMap((group) => group.counts));
  }

  get length() {
    return this.places.length;
  }

  async frame(index) {
    const [number, place] = this.places[index];
    const frames = await this.group(number);
    this.group((number + 1) % this.groups.length); // ready when its turn comes
    return frames[place];
  }

  group(number) {
    const found = this.unpacked.get(number) ?? this.unpack(this.groups[number]);
    this.unpacked.delete(number);
    this.unpacked.set(number, found);
    if (this.unpacked.size > 3) this.unpacked.delete(this.unpacked.keys().next().value);
    return found;
  }

  async unpack({ counts, start, end, inTime }) {
    const planes = await inflate(this.bytes.subarray(start, end));
    const total = counts.reduce((a, b) => a + b, 0);
    let first = 0, before = null;
    return counts.map((count) => {
      const levels = this.steps.map((_, column) => {
        const values = new Int16Array(count); // modulo 2^16, with sign
        for (let i = 0, low = 2 * column * total + first; i < count; i++, low++) {
          const code = planes[low] | (planes[low + total] << 8);
          const from = inTime && before ? before[column][i] : i ? values[i - 1] : 0;
          values[i] = from + ((code >> 1) ^ -(code & 1));
        }
        return values;
      });
      first += count;
      before = levels;
      return levels.map((values, column) => Float32Array.from(values, (value) => value * this.steps[column]));
    });
  }
}

// One of the two splat sets that take turns.
class SplatSet {
  constructor(app, largest) {
    this.container = new pc.GSplatContainer(app.graphicsDevice, largest, pc.GSplatFormat.createDefaultFormat(app.graphicsDevice));
    this.entity = new pc.Entity();
    this.entity.enabled = false;
    app.root.addChild(this.entity);
  }

  fill(columns) {
    const half = pc.FloatPacking.float2Half;
    const [x, y, z, sx, sy, sz, r, g, b, opacity, qw, qx, qy, qz] = columns;
    const names = ["dataCenter", "dataScale", "dataColor", "dataRotation"];
    const textures = names.map((name) => this.container.getTexture(name));
    const [centers, scales, colors, rotations] = textures.map((texture) => texture.lock());
    const low = [0, 0, 0], high = [0, 0, 0];
    for (let i = 0; i < x.length; i++) {
      const norm = 1 / (Math.hypot(qw[i], qx[i], qy[i], qz[i]) || 1);
      const center = [x[i], y[i], z[i]];
      for (let axis = 0; axis < 3; axis++) {
        low[axis] = Math.min(low[axis], center[axis]);
        high[axis] = Math.max(high[axis], center[axis]);
      }
      centers.set(center, 4 * i);
      this.container.centers.set(center, 3 * i);
      scales.set([half(Math.exp(sx[i])), half(Math.exp(sy[i])), half(Math.exp(sz[i]))], 4 * i);
      colors.set([half(r[i]), half(g[i]), half(b[i]), half(opacity[i])], 4 * i);
      rotations.set([half(qx[i] * norm), half(qy[i] * norm), half(qz[i] * norm), half(qw[i] * norm)], 4 * i);
    }
    textures.forEach((texture) => texture.unlock());
    const box = new pc.BoundingBox();
    box.setMinMax(new pc.Vec3(low), new pc.Vec3(high));
    this.container.aabb = box;
    this.container.update(x.length);
    if (!this.entity.gsplat) this.entity.addComponent("gsplat", { resource: this.container });
    this.entity.gsplat.customAabb = box;
  }
}

function makeApp(canvas) {
  const device = new pc.WebglGraphicsDevice(canvas, { alpha: false, antialias: false });
  const options = new pc.AppOptions();
  options.graphicsDevice = device;
  options.componentSystems = [pc.CameraComponentSystem, pc.GSplatComponentSystem];
  const app = new pc.AppBase(canvas);
  app.init(options);
  app.scene.gsplat.minPixelSize = 0; // thin Gaussians make up surfaces
  app.start();
  return app;
}

// The viewer's camera on its orbit: drag or one finger turns, wheel or two fingers change the distance.
class Orbit {
  constructor(app, canvas) {
    this.changed = () => {};
    this.canvas = canvas;
    this.entity = new pc.Entity();
    this.entity.addComponent("camera", {
      clearColor: new pc.Color(1, 1, 1), fov: settings.fovy, nearClip: 0.05, farClip: 20,
      toneMapping: pc.TONEMAP_NONE, gammaCorrection: pc.GAMMA_SRGB,
    });
    app.root.addChild(this.entity);
    this.pointers = new Map();
    this.reset();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.place(this.azimuth, this.elevation, this.radius * Math.exp(0.001 * event.deltaY));
    }, { passive: false });
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const spread = () => {
      const [a, b] = [...this.pointers.values()];
      return b ? Math.hypot(a[0] - b[0], a[1] - b[1]) || 1 : 1;
    };
    const wide = spread();
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    const radius = this.radius * (wide / spread());
    if (this.pointers.size > 1) return this.place(this.azimuth, this.elevation, radius);
    const turn = 180 / this.canvas.clientHeight; // degrees a pixel: half a turn from edge to edge
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    this.place(this.azimuth - turn * dx, this.elevation + turn * dy, radius);
  }

  place(azimuth, elevation = 0, radius = settings.radius) {
    this.azimuth = azimuth;
    this.elevation = Math.max(-89, Math.min(89, elevation));
    this.radius = Math.max(0.3, Math.min(10, radius));
    const [a, e] = [this.azimuth, this.elevation].map((degrees) => (degrees * Math.PI) / 180);
    const r = this.radius;
    this.entity.setPosition(r * Math.cos(e) * Math.sin(a), r * Math.sin(e), r * Math.cos(e) * Math.cos(a));
    this.entity.lookAt(pc.Vec3.ZERO);
    this.changed();
  }

  reset() {
    this.place(0);
  }
}

// The pictures of the input video, decoded when they are needed.
class InputVideo {
  constructor(bytes) {
    this.canvas = byId("input");
    this.shown = -1;
    this.pictures = [];
    for (let at = 0; at < bytes.length; ) {
      const length = new DataView(bytes.buffer, at).getUint32(0, true);
      this.pictures.push(new Blob([bytes.subarray(at + 4, at + 4 + length)], { type: "image/webp" }));
      at += 4 + length;
    }
    byId("beside").hidden = !this.pictures.length;
  }

  async show(time) {
    const index = Math.min(this.pictures.length - 1, Math.floor(time * settings.inputRate + 1e-6));
    if (index === this.shown || index < 0) return;
    this.shown = index;
    const picture = await createImageBitmap(this.pictures[index]);
    if (this.shown !== index) return; // a later one was asked for meanwhile
    if (this.canvas.width !== picture.width) this.canvas.width = picture.width;
    if (this.canvas.height !== picture.height) this.canvas.height = picture.height;
    this.canvas.getContext("2d").drawImage(picture, 0, 0);
  }
}

class Player {
  constructor(clip, app, orbit, video) {
    Object.assign(this, { clip, app, orbit, video });
    this.playing = true;
    this.speed = 1;
    this.time = 0;
    this.shown = -1; // frame on the screen
    this.busy = false; // a frame is on its way to the screen
    this.restless = 0; // draws until a still picture needs no more
    this.drawn = 0;
    [this.front, this.back] = [0, 1].map(() => new SplatSet(app, clip.largest));
    app.systems.gsplat.on("frame:ready", (camera, layer, ready) => (this.ready = ready));
    app.on("update", (seconds) => this.update(seconds));
    app.on("frameend", () => this.drawn++);
    orbit.changed = () => this.wake();
    new ResizeObserver(() => this.resize()).observe(byId("stage"));
    this.resize();
    this.connect();
  }

  get wanted() {
    return Math.min(this.clip.length - 1, Math.floor(this.time * this.clip.rate + 1e-6));
  }

  wake() {
    this.restless = 30;
    this.app.autoRender = true;
  }

  resize() {
    const { clientWidth, clientHeight } = byId("stage");
    const ratio = Math.min(2, devicePixelRatio);
    this.app.setCanvasFillMode(pc.FILLMODE_NONE, clientWidth, clientHeight);
    this.app.setCanvasResolution(pc.RESOLUTION_FIXED, Math.max(1, Math.round(clientWidth * ratio)), Math.max(1, Math.round(clientHeight * ratio)));
    // The whole orbit fits a square; of a tall stage the width is that square's side.
    const half = Math.tan((settings.fovy * Math.PI) / 360) * Math.max(1, clientHeight / Math.max(1, clientWidth));
    this.orbit.entity.camera.fov = (Math.atan(half) * 360) / Math.PI;
    this.wake();
  }

  update(seconds) {
    const duration = this.clip.length / this.clip.rate;
    if (this.playing) this.time = (this.time + Math.min(seconds, 0.25) * this.speed) % duration;
    if (!this.busy && this.wanted !== this.shown) this.swap(this.wanted);
    this.app.autoRender = this.playing || this.busy || this.restless-- > 0;
  }

  async swap(index) {
    this.busy = true;
    const columns = await this.clip.frame(index);
    this.back.fill(columns);
    [this.front, this.back] = [this.back, this.front];
    this.front.entity.enabled = true;
    this.back.entity.enabled = false;
    this.ready = false;
    this.wake();
    await this.until(() => this.ready);
    this.shown = index;
    this.busy = false;
    byId("scrub").value = index;
    byId("time").textContent = `${(index / this.clip.rate).toFixed(2)} s, frame ${index + 1} of ${this.clip.length}`;
    byId("note").hidden = true;
    await this.video.show(index / this.clip.rate);
  }

  // Resolves after the next draw at which the condition holds.
  until(holds) {
    return new Promise((resolve) => {
      const check = () => {
        if (!holds()) return;
        this.app.off("frameend", check);
        resolve();
      };
      this.app.on("frameend", check);
    });
  }

  // Shows one frame, and the next draws are still: for links and tests.
  async show(index, azimuth = this.orbit.azimuth, elevation = this.orbit.elevation, radius = this.orbit.radius) {
    this.setPlaying(false);
    this.orbit.place(azimuth, elevation, radius);
    this.time = index / this.clip.rate;
    await this.until(() => this.shown === index && !this.busy);
    const enough = this.drawn + 5;
    this.wake();
    await this.until(() => this.drawn >= enough && this.ready);
    await this.video.show(this.time);
  }

  setPlaying(playing) {
    this.playing = playing;
    byId("play").textContent = playing ? "Pause" : "Play";
    this.wake();
  }

  step(frames) {
    this.setPlaying(false);
    this.time = ((this.wanted + frames + this.clip.length) % this.clip.length) / this.clip.rate;
  }

  connect() {
    byId("scrub").max = this.clip.length - 1;
    byId("play").disabled = false;
    byId("play").onclick = () => this.setPlaying(!this.playing);
    byId("scrub").oninput = (event) => {
      this.setPlaying(false);
      this.time = Number(event.target.value) / this.clip.rate;
    };
    byId("speed").onchange = (event) => (this.speed = Number(event.target.value));
    byId("reset").onclick = () => this.orbit.reset();
    addEventListener("keydown", (event) => {
      if (event.target.matches("input, select, button")) return;
      if (event.key === " ") this.setPlaying(!this.playing);
      else if (event.key === "ArrowRight") this.step(1);
      else if (event.key === "ArrowLeft") this.step(-1);
      else return;
      event.preventDefault();
    });
  }
}

async function start() {
  if (!window.DecompressionStream) throw new Error("this browser is too old for this page; use one from 2023 or later");
  const script = document.createElement("script");
  script.textContent = new TextDecoder().decode(await inflate(takeBytes("renderer"))) + ";window.pc = pc;";
  document.head.append(script);
  const clip = new Clip(takeBytes("clip"));
  const canvas = byId("view");
  if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this page needs WebGL 2, which this browser does not offer; switch on hardware acceleration");
  const app = makeApp(canvas);
  const player = new Player(clip, app, new Orbit(app, canvas), new InputVideo(takeBytes("frames")));
  window.player = player;
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.has("frame")) player.show(Number(asked.get("frame")) % clip.length, Number(asked.get("azimuth") ?? 0));
}

start().catch((error) => fail(String(error.message ?? error)));
