//! Names worth starting from.

/// Pretrained weights that a model here can be, as their publishers describe them.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// `OWNER/NAME` on the hub.
    pub id: &'static str,
    /// Who trained them, on what.
    pub source: &'static str,
    /// Millions of parameters.
    pub parameters_m: f64,
    /// Side of the pictures that they were trained on last, in pixels.
    pub image_size: usize,
    /// Published top-1 accuracy on ImageNet-1k, as a fraction; `None` where none is, as for features without a classifier.
    pub top1: Option<f64>,
    /// Licence, as their card names it.
    pub licence: &'static str,
}

/// Small ones first; the figures are those of timm (`results-imagenet.csv`, cards, `pretrained_cfg`).
pub const KNOWN: &[Known] = &[
    known(
        "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "AugReg, ImageNet-21k",
        5.7,
        224,
        75.45,
    ),
    known(
        "timm/deit_tiny_patch16_224.fb_in1k",
        "DeiT, ImageNet-1k",
        5.7,
        224,
        72.17,
    ),
    known(
        "facebook/deit-tiny-patch16-224",
        "DeiT, ImageNet-1k",
        5.7,
        224,
        72.2,
    ),
    known(
        "timm/deit_tiny_distilled_patch16_224.fb_in1k",
        "DeiT, ImageNet-1k",
        5.9,
        224,
        74.50,
    ),
    Known {
        licence: "bsd-3-clause",
        ..known(
            "timm/resnet18.tv_in1k",
            "torchvision, ImageNet-1k",
            11.7,
            224,
            69.76,
        )
    },
    known(
        "timm/vit_wee_patch16_reg1_gap_256.sbb_in1k",
        "timm, ImageNet-1k",
        13.4,
        256,
        80.26,
    ),
    known(
        "timm/deit_small_patch16_224.fb_in1k",
        "DeiT, ImageNet-1k",
        22.1,
        224,
        79.84,
    ),
    known(
        "timm/deit_small_distilled_patch16_224.fb_in1k",
        "DeiT, ImageNet-1k",
        22.4,
        224,
        81.22,
    ),
    known(
        "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
        "AugReg, ImageNet-21k",
        22.1,
        224,
        81.38,
    ),
    known(
        "timm/deit3_small_patch16_224.fb_in22k_ft_in1k",
        "DeiT III, ImageNet-22k",
        22.1,
        224,
        83.07,
    ),
    known(
        "timm/vit_little_patch16_reg1_gap_256.sbb_in12k_ft_in1k",
        "timm, ImageNet-12k",
        22.5,
        256,
        83.80,
    ),
    known(
        "timm/vit_small_patch32_224.augreg_in21k_ft_in1k",
        "AugReg, ImageNet-21k",
        22.9,
        224,
        75.99,
    ),
    features(
        "timm/vit_small_patch14_dinov2.lvd142m",
        "DINOv2, without labels",
        22.1,
        518,
    ),
    features("facebook/dinov2-small", "DINOv2, without labels", 22.1, 518),
    features(
        "timm/vit_base_patch16_siglip_gap_224.webli",
        "SigLIP, captions",
        85.8,
        224,
    ),
    known(
        "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "AugReg, ImageNet-21k",
        86.6,
        224,
        85.10,
    ),
    features(
        "google/vit-base-patch16-224",
        "ViT, ImageNet-21k",
        86.6,
        224,
    ),
];

/// With a classifier of ImageNet-1k; `top1` in per cent, as it is published.
const fn known(
    id: &'static str,
    source: &'static str,
    parameters_m: f64,
    image_size: usize,
    top1: f64,
) -> Known {
    Known {
        top1: Some(top1 / 100.0),
        ..features(id, source, parameters_m, image_size)
    }
}

/// With no accuracy to state.
const fn features(
    id: &'static str,
    source: &'static str,
    parameters_m: f64,
    image_size: usize,
) -> Known {
    Known {
        id,
        source,
        parameters_m,
        image_size,
        top1: None,
        licence: "apache-2.0",
    }
}
