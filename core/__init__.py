"""One video becomes an animated 3D object: L4GM, the large 4D Gaussian reconstruction model, readable and trainable.

    video -> media -> view_grid -> model (U-Net) -> Gaussians -> rendering -> losses | media, ply

Map, from the ground up; imports go down only, and ``tests/test_architecture.py`` holds that:

    core/errors.py            UserError, for everything that a user can fix
    core/conventions.py       orbit, field of view, azimuths of the four views, clipping planes
    core/options/             typed options in sections, presets; no torch
    core/cameras.py           Cameras (c2w, intrinsics, size), orbits, OpenGL <-> OpenCV, Plücker rays
    core/gaussians.py         Gaussians (means, opacities, scales, quats, colors), 14 raw channels, activation
    core/view_grid.py         ViewGrid: posed images on a grid of samples, times, views; each distinct image once
    core/rotations.py         rotate, scale and mirror Gaussians; quaternion product
    core/files.py             input files checked before they are read; output files written atomically
    core/places.py            weights, protocols and lists, found from any folder
    core/devices.py           --device as torch's device
    core/images.py            pixels and picture files
    core/ffmpeg.py            the ffmpeg program
    core/media.py             videos in and out
    core/ply.py               Gaussians <-> .ply as common viewers read it
    core/tensor_files.py      named tensors from untrusted files
    core/cpu/                 CPU kernels behind one dispatch: norm, attention, LPIPS; how they run; memory
    core/model/               the published network: attention, unet, l4gm: grid [B,T,V,9,H,W] -> Gaussians [B,T,N];
                              fast: the same weights over distinct images
    core/nano/                the small network: scene, visual hull, cost volume, motion code, ray head, filter, model
    core/lact/                LaCT: new views from posed images, by fast weights; its attention twin
    core/architectures.py     build_model: the network that options ask for
    core/checkpoint.py        load weights with a report, save them atomically
    core/rendering/           Gaussians and cameras -> images; numba on the CPU, gsplat or diff-gaussian on CUDA
    core/lpips.py             the perceptual distance
    core/losses.py            training terms, PSNR, SSIM
    core/export/              sequences of Gaussians -> packed clip, HTML player, other projects' formats, viewer
    core/data/                clips -> samples; side_views: where views 1, 2, ... come from, everywhere
    core/multiview/           first frame -> four views: image files, single-view model, ImageDream
    core/tracking/            the motion of a set of Gaussians: predicted from a video by a network, or fitted; tracks
    core/guidance/            diffusion networks judge the fit's views: Zero123, ImageDream, SVD; SVD's videos
    core/matting/             any video -> its object on white, cropped: which frames, which matte, which crop
    core/inference/           lift, sequence, turntable, and the files of a result
    core/training/            start, build, run, step, log, evaluate, state, report (Accelerate)
    core/meshing/             Gaussians -> watertight meshes: density, depth fusion, surface, GLB and OBJ
    core/app/                 the web app: one page, one process for each run
    core/evaluation/          protocols, systems under test, baselines, metrics, reports
    core/motion/              training of the network that predicts motion: clips with known surfaces, samples
    core/nvs/                 novel views with LaCT: scenes on disk, inference, training
    core/cli.py               command line of the scripts; errors in one line

Axes, always in this order: b sample, t time, v view, c channel, h row, w column, n Gaussian.

World: y up, object within [-1, 1]^3, cameras on an orbit of radius 1.5 with a vertical field of view of 49.1 degrees.
Cameras: OpenCV c2w (x right, y down, z forward), intrinsics in pixels, pixel centres at +0.5; positive elevation is
above the horizon. Quaternions: (w, x, y, z). Colours: RGB in [0, 1], white background. Images: channel-first floats
inside, uint8 channel-last in files, rounded.
"""
