// What core/export/player.js uses.
export {
  AppBase, AppOptions, BoundingBox, CameraComponentSystem, Color, Entity, FILLMODE_NONE, FloatPacking, GAMMA_SRGB,
  GSplatComponentSystem, GSplatContainer, GSplatFormat, RESOLUTION_FIXED, TONEMAP_NONE, Vec3, WebglGraphicsDevice,
} from "playcanvas";
