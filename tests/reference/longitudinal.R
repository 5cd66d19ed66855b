# What R says about the shipped study and a public one; the numbers are in longitudinal.json.
#
# Debian's r-base-core, r-cran-lme4, r-cran-nlme and r-cran-clubsandwich. From the repository's root:
#
#     Rscript tests/reference/longitudinal.R DIETOX
#
# DIETOX: dietox.csv (weights of growing pigs; Lauridsen et al. 1999, from R's geepack), as
# statsmodels carries it: python -c "import statsmodels.regression.tests.results as r; print(r.__path__[0])"
suppressMessages({library(lme4); library(nlme); library(clubSandwich)})
arguments <- commandArgs(trailingOnly = TRUE)

study <- read.csv("src/dermx/longitudinal/sim_acne.csv")
study$treatment <- factor(study$treatment, c("Baseline", "Antibiotics", "Cream"))
study$week <- (study$day - (min(study$day) + max(study$day)) / 2) / 7
pigs <- read.csv(arguments[1])
pigs <- pigs[order(pigs$Pig, pigs$Time), ]

by_lmer <- function(formula, data) {
  fit <- lmer(formula, data, REML = TRUE, control = lmerControl(
    optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5)))
  list(effects = unname(fixef(fit)), errors = unname(sqrt(diag(as.matrix(vcov(fit))))),
       psi = unname(c(VarCorr(fit)[[1]])), scale = sigma(fit)^2,
       log_likelihood = as.numeric(logLik(fit)))
}
by_lme <- function(fixed, random, data) {
  fit <- lme(fixed, data, random = random, method = "REML",
             control = lmeControl(msTol = 1e-12, tolerance = 1e-10, msMaxIter = 500, maxIter = 500))
  list(effects = unname(fixef(fit)), errors = unname(sqrt(diag(vcov(fit)))),
       psi = unname(c(getVarCov(fit))), scale = fit$sigma^2,
       log_likelihood = as.numeric(logLik(fit)))
}
# clubSandwich's CR2 with Satterthwaite's degrees of freedom, on the same REML fit.
contrasts_of <- rbind(c(0, 1, 0), c(0, 0, 1), c(0, -1, 1))
intercept <- lme(severity ~ treatment, study, random = ~ 1 | patient, method = "REML",
                 control = lmeControl(msTol = 1e-12, tolerance = 1e-10))
robust <- linear_contrast(intercept, vcov = "CR2", contrasts = contrasts_of, test = "Satterthwaite")
uneven <- study[!(study$patient == "P01" & study$day > 40) & !(study$patient == "P02" & study$day < 20), ]
short <- lme(severity ~ treatment, uneven, random = ~ 1 | patient, method = "REML",
             control = lmeControl(msTol = 1e-12, tolerance = 1e-10))
robust_short <- linear_contrast(short, vcov = "CR2", contrasts = contrasts_of, test = "Satterthwaite")
noise <- gls(severity ~ interaction(patient, treatment), study, method = "REML",
             correlation = corCAR1(0.5, ~ day | patient), control = glsControl(tolerance = 1e-10))
rho <- unname(coef(noise$modelStruct$corStruct, unconstrained = FALSE))

number <- function(x) paste0("[", paste(sprintf("%.10g", x), collapse = ", "), "]")
object <- function(fit) paste0("{", paste(sprintf('"%s": %s', names(fit), sapply(fit, number)), collapse = ", "), "}")
robust_of <- function(r) list(estimates = r$Est, errors = r$SE, df = r$df)
out <- list(
  study_intercept_lme4 = by_lmer(severity ~ treatment + (1 | patient), study),
  study_intercept_nlme = by_lme(severity ~ treatment, ~ 1 | patient, study),
  study_treatment_lme4 = by_lmer(severity ~ treatment + (treatment | patient), study),
  study_day_lme4 = by_lmer(severity ~ treatment + (week | patient), study),
  study_trend_lme4 = by_lmer(severity ~ treatment + week + (1 | patient), study),
  dietox_intercept_lme4 = by_lmer(Weight ~ Time + (1 | Pig), pigs),
  dietox_intercept_nlme = by_lme(Weight ~ Time, ~ 1 | Pig, pigs),
  dietox_slope_lme4 = by_lmer(Weight ~ Time + (Time | Pig), pigs),
  study_cr2_clubsandwich = robust_of(robust),
  uneven_cr2_clubsandwich = robust_of(robust_short),
  study_noise_nlme = list(rho = rho, sd = noise$sigma)
)
versions <- sapply(c("lme4", "nlme", "clubSandwich"), function(p) as.character(packageVersion(p)))
made_with <- paste0(R.version.string, "; ", paste(names(versions), versions, collapse = "; "))
lines <- c(sprintf('"made_with": "%s"', made_with), sprintf('"%s": %s', names(out), sapply(out, object)))
writeLines(paste0("{\n", paste(lines, collapse = ",\n"), "\n}"), "tests/reference/longitudinal.json")
