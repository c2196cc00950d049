//! RSA signatures with malformed padding, which need the private key to make.
//!
//! They were generated once; the private key was discarded. Each signs the same claims with the header
//! `{"alg":ALG,"kid":KID}`.

use serde_json::json;

use super::{Case, case, jwks};
use crate::support::signing_keys::b64;

const CLAIMS: &str = r#"{"iss":"https://issuer.example","aud":"https://api.example","exp":1800000300}"#;

/// The modulus of the keys `fixed` (exponent 65537), `three` (exponent 3) and `one` (exponent 1).
const N: &str = "wJKBv2HgsUehvQJRc8e89Y5g3_ht42om1ME7M3MDs6VX4QSmYxZabvZO6dHsK0A_TRJY5PWvH-DXPJJJt3Amk21NPjvNWMQSQiBQ0DHFR7Nw08WHY5jpqueT2j74knMZa78gHWJ9nVTX5hdruimTN0gVsiQANDUeehYjljp_fMCT3IJWRD9xvKFAy_CRNSuxNZVVmZN0uRv4vz-g6pDfw3JSj02XKtFL13knZtlMhKGbiyRo9Dks4JXa4n_6Z7JzkhJZCezkbpTyymd86Wod3_D4sYzhlxp_NA-WUZXLdy1nedNMAi9H7pwDTT8fTIOkVAob6uXImb2f5_bHOt05uQ";

/// A modulus of 1024 bits.
const SMALL_N: &str = "yq3eqlR07nOehkUuH0qFUxDDJA1m6vrZdmxJglHAogRbnw7Xn86CKm58MMZ3lD2szEqG1S0lWITMcIQ_6nuvEMc64se5LJ7XuDiTXngg9_S3b5dlVseTWu_JneJNdPVi0uBAdlRMmn2O63wmAlZqlQuph_B8AUKtHiv6X8oJExs";

pub fn cases() -> Vec<Case> {
    let key = |kid: &str, n: &str, e: &str| json!({"kty": "RSA", "kid": kid, "n": n, "e": e});
    let keys =
        jwks([key("fixed", N, "AQAB"), key("three", N, "Aw"), key("one", N, "AQ"), key("small", SMALL_N, "AQAB")]);
    let build = |&(what, rule, alg, kid, signature, expected): &(&str, &'static str, &str, &str, &str, &str)| {
        let header = b64(format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#));
        let token = format!("{header}.{}.{signature}", b64(CLAIMS));
        case(format!("{alg}: {what}"), rule, token, expected).keys(&keys)
    };
    SIGNATURES.iter().map(build).collect()
}

/// Name, rule, `alg`, `kid`, signature and expected verdict.
const SIGNATURES: [(&str, &str, &str, &str, &str, &str); 27] = [
    (
        "correct padding",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "PxfugmMyhC68mzutZiU4ds4AF73kZueOsQVdIp-XVsQoWfRD-BQZv-vf2NvimXp5omJIL-dUUC_3tVoBe-a2xJHU-wDqErNNdOuvpzDBaq6JE72I0oLtZU00MxHBzc7V4b1M1JhQeL3rmxfLOHrlNDi8Y1RnO67CmEIv4_OUu2D9Z5OjBoYL5CB_YGtxlY3XXjU6dnPg8CiBOzSCN7kRifAHGnERoyxZwb0oF317ggKIB9E-R8wSRRWxie7K3JKMLJaVSOc6U84ZejjAtp_Y8j5wHcUlrNrCzQAI6uplCysNBQvkj3AZr0VE9R0zZqLx_nWFIt9oU9I79_FctyIOhw",
        "valid",
    ),
    (
        "no NULL after the hash OID",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "jFfu09pIJ9x47iSlFSbOU0BSnwqr5Gr7OT6WlR7AFU2q5rXB4sdmO5t6E43VCvvAyg_puThECxgBSujAsEl2HJiZ4N2NUHl9tt0siif4Dp8v7VxO-ht87yAluQ34tXYDOtJFU5yLpvzFihw3GCsbCOOyyfIPdxbayn1IRnu_iSw0jXDs2xdXvAv2yD74cwiJsAau5BNqceTUqLCfXx2rckoVFAiirNzAu1ZN7ZAt5DWbMO0wYtAxJLwY5kQAHZYqVZ3qGWS5PYJUgNGfwoEfqr-QbJajKgGd0eOGZf5IuJTw9yJKNiTrN5X2SwKWcCI1XdOiQRwk8vJbOEr0mu63tA",
        "invalid_signature",
    ),
    (
        "SHA-1 for SHA-256",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "u7bzrnLGmuZXMXwDVWzyqx-LQblITMQrRaHLJnrLSHTZ9m796UbD8obuz1UL4fxAdh8TPJn8Cs28b1MVf15kS_aiu20lstAPVoqL8u3SRHbDXu4K3r326PBoMSwsdNBTztC1HewAp32K-z_REau4yHYbo_B25PmLzZ6K2BJiwPyrWqf-okvvlwSTcVZaFEE7_GCsx8azidmgtzqjd1tciEGOFcXSdM3ROPYU3-nGY1zMB5VOerzO7zz0l0iw2aErIt28mkWWzHc1TxIUt9plmHi3AkDf96ChOU4NGe5k9fGQr7R0CQPKBwAA62UR3_81u3lpLA0nW16Qae08AzldyQ",
        "invalid_signature",
    ),
    (
        "the hash alone",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "qmE07SQhuWyPuoFGCgNZtuktLoukjQ3cpXniXLjG-W9IWJDN_YfaiJQ3IDL52E4D4dzrn1XA06CYf255RrWySJa1Ip8zgAb1N5pXFZY5khZ4zNdWqcSAKFPfrYNpVC0EasvTzBMdKeooMNnaWqpYast4epg2nxelyQT3PjoOYnbk1Q0DHHrw6UMMSlUJTvNSz36ERFdxVXWOngJDzSHTgFERTRNWEY0drpGJtvXo5e0UEq0xtC4ibK7jm-I9UOUUQ2MI9Cq86b0eDKkoG5gA1CJf3YuLa5I-iBm2Y9Ag52BwbfZvjldCYsP8eoLCHLqjcrLDRQGlpDtp5Z2rzrjVwQ",
        "invalid_signature",
    ),
    (
        "padded as for encryption",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "iNM3g7wzw8rkjFCEcR5cdeasi1FHQ5UNTZaN_X3D4Q05qwf_CQNUPygzkdpUE5qQmfyZzPV4uV15WlxRBEGXjeAp0er0cX8VotR_q7jRO5M-b4xhW-ahqcuTDE2nSKSJWPfu8Q3MMWwylUkFi6Jl_5q7sWl6z9GG7dRHo1c22emsodpfWVuyefJdiU_xF_CPrEGuWqWWwk9cmyb2dc67VD0HzRmpc7qgW46g6X-wJI_DtX0rYKoLIjBX48xu3JzY8JGda9xuD8OZcZwPOhuKHp0FxPzFwlf7qV51Fy6Zu3obCMG3rG6P_N1NSdzksNTKYYTLEgNCJWIlQxTDDomucw",
        "invalid_signature",
    ),
    (
        "padded with zeros",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "dEk1UydpW9m_tNR8CY_kpdN5FK6tRgRDwPTJ7Sgrc8Kmjt22_0kJd7TKdIlzuwPmhV4A-d2shbqcJhES1e1Lmj28DuF4zaNhHHQF13a-tjwxNlB0kFKLNO2X1fj9A49pYh6XlGzCP3nndpkr-y-xCih_TwX6dYQ_RcDVNap2o_VhKwT2abjeU8xdozm-_JiNh_h3C9JsflRoK8NFsiUThcL_c2P6VSHugdoGBcLa4iKwIhdWHYabkLnXF73EHzyEA_mOsA5w3tsbgZyyEPZdCGACe4arjCHKZV7scYl7AHZaBIekySZGI2qzMp7V6tawhZXWnqeepwjEG2sx8EnzWA",
        "invalid_signature",
    ),
    (
        "one padding byte changed",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "jZcljZMg1XmzwqyLpncTFhpm7GeMm4VnAdJl28XU2qPwBZ5K4KGr8A0h5ukHbuTZ42aNTrR4TLsEmShhbXZEZUrt1OG349CnCy4H_ad9K2yH0l3vfSKDYG2-CHx_R4BRHGoDkWHWrZ2mVotjw1cax3ixUZJMbxsSZc0o3CxA0OYtWS4KUYOlG4DVbTAGkjOnnwLrAiSGid1i2sjAKeQHW6yenif5hmxIQZsdsHpq5hoA83JozYaHv6Sk4sRDyfUOtl5pvjECDeSF9ZxiobeRzgEmGGBofwU-MTYuSr_prNwVCmj3WjPMxMoLn-19LA9CPqnRnXwo3gj85R3o1iwvEg",
        "invalid_signature",
    ),
    (
        "short padding and zeros after the hash",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "stCYvm7TtRlAW51Dxf-ifQcL9ApE21kXqtSPd5o0Htis-roivitbKxz5QDPUbJnTG7gWyzXPWvrJ5WthElwxmX5rEXpiqbd_jCx9Cr3RiBC4WLOvQ8-Dg1LdTrts7EgEQgmyAFDxG5QXclkMG5tDLtl9OVzg40ekidumjXk3sNxgtRYu42FImnwXMqVlQoULLcBHYA0QW21BakFbyUrZcVzHoguidi9XVrLHJFRp5uKpukqmzYVvuAIDROt-iRgtQEuLgl3IDhTE0XwZFuP7lL_NaMTW28M-m4VNmAs9n6qbYv7KIRLrw2Md8VvAaP7_5IabTw0Ji4o7gtIk-7kH3A",
        "invalid_signature",
    ),
    (
        "no padding and ones after the hash",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "QeXQhRsIhnLeUrU34O1bdRwg_C_b59if9cR17ehO43o3svmJsFUPBYmcA3HfH5aiD-Xj_zJcf-JM_Bo_9Xsr3sEwxeGjGVjkMdEZWhjcX3P6GZ6COjMt74OVTOBs_HqifnB9XwxS2QmuNRKtyWsklvYwuc69xtlDHfUgPl2zHRiSDVb1hpDIr6BxpM2uHY0y-B9lm8Q3y-RdqHA0YHQa0d5YCDqr-eMZ7D3yyYbkg4kAsa-ytceh9MXuX-mB8ouMPs9x0nBAx-jcQfTANkqmyB5JWiGs7pqeDwqS3lRqQDCHGTufrasxwTsZtHJnq5acpjQjjQUG4skTzyV0kND-rg",
        "invalid_signature",
    ),
    (
        "a length in two bytes",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "NbiKxu0AYql55Qxz5kUVykfZ45AXzUXOcdJpNTgWaOWRBOfv3Q4mFO-_505P7B0jeVqVuhk2lTQwAOYDHZwL92C-Vslfl2uJsbEdmWT6yTEDKVEvmWWGpa69BshDB_1eb6qSR5o7XLCg-NfMiBvLMcB1vShOq_bHwEIKmOXALZi7uI6Csl9G8TBHeLxJA2T0SO9jlL56JZxVHZz9-AdgNzAtgPZu0kfZneNS6wBX0wSCaU-rS6Q14f-UjLhG7cVF-8-IJBCld384o_onp0RqOJiHJU2hVWzXVGLo-9Jlp16cHuubWZa3UR0rOyvkbwGgczIUNHz2kmotc-H2pvC-nQ",
        "invalid_signature",
    ),
    (
        "more data after the hash, inside the padding",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "XTQBPN8jjNjisWMyQtZyVw_BFIk9ayP9m_g_IP9EYxt6nfDkXqb-FrbEre-v1D8ibxHRy_GLUuU9IozAY3ZjKbzddPTknoaG8qXwY-BQ7IzjVchv1LTPzEM4gRictNajgzsthLbmASGh6EUJhg84VJyYXWXcUfFiKw4AtE1BvSW-nZPhPBZOVVnbfhoiBGcDra3d4m_BDMX5xnp-UWUfohoqDz1Rx5vpGYNsFtiJVVqPt_brN0BgNxYXyvkpUdFWyDQvL1agJP4dilXEQM_fj4Z_wFz38sNy7SeSFh3RvCZQr5YNzvQKJgYkCMulozhUXKIbGlOnzGomh_7Evi9tKw",
        "invalid_signature",
    ),
    (
        "the OID of SHA-512",
        "RFC 8017 9.2",
        "RS256",
        "fixed",
        "PEijiIvy2etyl2H14g-RPHdxluW14i0ClCdDUDlHGjVVb9GdX9EwJCzO6k9o1Pnnd4xrTor05aTJgNalB2hFwdx6FLkc-muG58e0N7dZBbO7O7Gz9wKlTpcGksfTDxfQFQKfeZVdlDvj6WNWl9VLZJ-GBzbk1oKoTSlkJpcJs7eyATqj0UD5OtdUtEGbAdxVZUNhCABiKqxWbeJeZS-hDrCHopLEhE8CRb_sES6bcPL4r9orkmV-XEHJ1P2zTaA-weLCHJON7AmX_9hump79mrp39kTi_JXvUsM-p_UTa873wMyBcn7LZ_mKuUrfEwBWoLIL8WfMB8q1Enc6bKivaQ",
        "invalid_signature",
    ),
    (
        "a salt of 32 bytes",
        "RFC 7518 3.5",
        "PS256",
        "fixed",
        "vTxyrA5G6eDNt4Pub2n1MrTe8j8pR0Eny5g6W5kah3xmkRxa3BaplLD7OYxeff6oYOWjwvT3x6W5R2vFfGBuNmsjE6e59PcBSpEzcNK5Z-ZSH5iNPwT98JW3pBO7SM2oQiVWbTjMlr34aeaomMzRh3Rnum50MfcKII8nwEBEtWNDegBx0rzMfh8duj84gOYqHXw1rAtH_OfWAg-St9v11H4taU4S4ji5TIJr0PTBjfy7i7t-5eZy5F8W3z78-YBVp02usrfF05zR7_aR2GiKF_F7B5653jnSQjqevVJH-sj8F78ceTsM_zNY9Abb9xed1HH9yc-tB8xCbK39OgG4-g",
        "valid",
    ),
    (
        "a salt of 0 bytes",
        "RFC 7518 3.5",
        "PS256",
        "fixed",
        "NmPbjcgVG2-ucVCHm022GvNU8G_hXKxU03qFZ51XLthvn9tVXTlyS8YfKCehZ95xwsy38zxDFV2ftZ-6wbiv47Fa6NkrTPAaXQwv3FolIqJmZAfcVmt5b_1I9QoToTL1QfDb0fjs_nK6QQGHJNwTayixUteBkkiMesNLReaix7p4g39Iidbv3Uze-D4GOPl_mJ9ubGIVGAL1loV4vJwbzj7RwOACSmMCBP6rZwuucZFsqNIsN5MNNLI2C-OnyabCrG1Ol3J2QnI_iMZb7N_mI4LZVcXxOY90asb4QF_8uWEwOci_QpLh-F6MIk_aPV85FgkaiP5OM61DeiWR4urjJA",
        "invalid_signature",
    ),
    (
        "a salt of 20 bytes",
        "RFC 7518 3.5",
        "PS256",
        "fixed",
        "m1XMiNvLV95r4Xzui53RsehfUHnDRfqK5ycV1VFRBsABNUiVncjhi_NjJAflk92fnb5ecC9IfXuGKHLHKcUd_a4806b7lbCLR_jb-fnv5TENeIf7_u-mDqT_qu695pD8BU_NAm119WIN7tnNQoN6fAVcW6Kw_9QYhhMeiZiZs1Yq0wfGiD3a4HV1ATQYo7rhvW9HL7MjboF4FK7bSFRV34SLZVVsFXw5FplJj_Hwm5QjnktKrXJlB7xTsQUJHkx7LmuNQuLAtKiujGWAc7BIJY9IV1AlkwH3Yxy4_5jrtv21ENCdcWT7afHpbjLJyXWnu4-RVYVpc6RSeVGoDxRuVw",
        "invalid_signature",
    ),
    (
        "a salt of 31 bytes",
        "RFC 7518 3.5",
        "PS256",
        "fixed",
        "NdVSlHaqqT0a8frr7TpC3EOCXXTKEG738T3im0sXuLjDiphny30imXxiynSyBECf0hAsxOyoVltW6NPM4wEyQfqMN8BW1QFtH3NL_tE8anRkIzQAmPnJhZY5lDJCRieugSx71_KVbeLXn_oTq7Dk-TBjqps7inbLGL4NSL3cKROy5fB2vjhgu6e5ikx8MEoIyGR8unj4hV1bEysRTCdkDn15d8ObJpB1-tUbN02eXEPgx0mT3tfGHXFZS7o_11va-yaHGhao8ciF3ZtAPyzNTnaeEJXFD5J8GqzqKBgjvMi6RGx7GCno5FK0tukWktdkb7MYYdh_F4hDmPpIejkn9A",
        "invalid_signature",
    ),
    (
        "a salt of 33 bytes",
        "RFC 7518 3.5",
        "PS256",
        "fixed",
        "mYtn3Sqz_CvstSABIIhIJHtRVwECYMSpfet3ajoIQQHzIQ-m5PsgBrtM5nAcAsgbBkBtxpDcUCFvMsjJPQnM8qZFbBubNmFRLX3M518HWN3a3HH4MifxcEzJDhiMMYn4W1p-I2ocR52yL6rHWegv12zhggyskwIRGQb4GXyf2SBNaOTIhn_0cWZghyrcmhvMgXr7uku0Spsjz69PSxudTPbP12ZFyVVVVolyZ6U1x2SoDQh16yjOpYS2VrIyxvRRhKQQuTFpF3qcjPsrSaXUmMp3_C2hOgjg-pmH_PRs92kR2lgaBIK1OCcGj9HG6rmig6dN9pbxB1iMs-HysI5N8A",
        "invalid_signature",
    ),
    (
        "a salt of 64 bytes",
        "RFC 7518 3.5",
        "PS256",
        "fixed",
        "oD_4Kv9ctekhNyaQopZN3bZAloOrPoMTsueGK13JCOSUCdYOc7jqkkcY4XJdzyndwb8SLCdjCe4S__mhwso-6bN_O4h428Fv1iL0fegfzALLcLvX3lNSr_1bvV2uHGBqYHDB-e8WCff3iA7I7Nr3RdGNgH2F97poF-_ia96nCKdVs3fNcCMZJXCxGRHfVhIQXM8d8zduwW3yX7v5EQlzYR1zSqHKggfhi3wRAE4ZqA7I-OJrxP9Lw0hLgk61NEH0L_Ggf-BoooFTdRbfcHt5-4VPWjuQtygWNNb77szQswTTOXGyRwnIAzkaebnyQ92ZuXdTbHsv2ZVE0XkiW5HBOA",
        "invalid_signature",
    ),
    (
        "a salt of 222 bytes",
        "RFC 7518 3.5",
        "PS256",
        "fixed",
        "ilG_Glixm0pn44xHIjkO9bLNkND5aAoMTcBarLGaYma8hmCNWPPEsMLbQ_IiWYDFH3a6NG6Rmtlv64AxBYPvnhM-OxSMdhuCLBg9ECidFNtKuyxyWohT_v20VmTIzIJFp5Sq1OYiREGhzmI7kHNHKfVilDQqo0a7MAfaUFm2RwjBw-p8RPoqiZi0akduBZKbqBICWBqkykqb01pqW3hERaRMXg0yvef0NUZ6dkYaY5juauaMOpmn-z69EUfKkabMLlu4dOiznzaxk6euJC63E1_36r2eyMHwOX3b3mWzWndXZzcrR9d3oxX8LI9RmOgjrP_MM7HCtxiJGgiFmEBpNQ",
        "invalid_signature",
    ),
    (
        "a mask made with SHA-1",
        "RFC 7518 3.5",
        "PS256",
        "fixed",
        "eKebSHlZ9YHb_Vd_DXOUNfwwFa23AhOgiJDtsj7zILeIzZibrMHmBiHsmDUfRn8hMZTlNTsNjW8wCms5dx5wxxcwZ82Ek2_hWYAuZVK-8ubub-bdzsjzFxZFYTCQRyiGB6etPSGDwksghFeN21Cz1NpJlIu9U_bVJJREVv_jBXphkGxAOnvctSojyB9osz3yqcTMTD3CdIR3TOt2kXTWZI226Rc49HnKe2C-QiaCtUcny2s24jlgMdUvBXjpIOpdsSDknIK5D2owj9SxHeTPQDUp4xKe2o4nkzPZ5RGpi-MWEnffBOJTW5x-k4hf1FAS-h2QDBCOuLlG6bouWmjrmQ",
        "invalid_signature",
    ),
    (
        "SHA-384 throughout",
        "RFC 7518 3.5",
        "PS256",
        "fixed",
        "SRGEyEx6DE6KM-lJearhCp7dXBky1e9jLoSdjh57OSNyajuKlotcu1HIOTFcBvea3Hdk5B24O1BobqUc0L3LhguhFWnWi021RkLoIzFwcV-Z9Irv99iyjt-UMRiZ9CFvQhpZ_2KQp4rq3ql1FW2km9sbOOnz7hLJOX6TnQzdxlDsOIPxWEFGBPl5uRiEj2IO4-rXoenjG6XYiSPdouPwWGjC0Qh3D-G3C5NsFwQbtYC3_NuQqJ2usJKoXJymYUXUCMwWt4qV27KNA3G00MnpcxuQXsv99SKoWFcmutfcKBl8d-O3YXrQmPGRU9RCNsecFCvRD1KtQ1fyPJMMYh-gFg",
        "invalid_signature",
    ),
    (
        "a wrong trailer byte",
        "RFC 8017 9.1.2",
        "PS256",
        "fixed",
        "MupPMtscT4b66eEUxpCDvin547IcdifG83ioxuZkdwJxxHgBmV5s3h_ZM4_Wx1TUcXAF9PuEoGo10t8zTKqURswubyhomhgiF2IeC9p0l34iMWag8_jC8Pp8anz39G54aFZlUkX_dJIU3h029yVhowy7rawid5bV2aZf6qh1lJ6jP3lVhPT5mRH4AweC8LFoyuU_WWrSyhzeoUbir4HokJH2H4COFZQVZy39ZcojS6y3GxtM8VBBsL2qzA4NzHQz-boBuIUXjE8VXIeVR37632RFL8zFokCYfDhxsIKnKorateVFBMe-9uYtQo8RYJDUS9dxcxzreJEoux5Ng7sHLw",
        "invalid_signature",
    ),
    (
        "padding zeros that are not all zero",
        "RFC 8017 9.1.2",
        "PS256",
        "fixed",
        "TOX5veCFXijiVQ42PzagFAZ7xfNNJ8Th3jqAULDBLeLPBQ_S-t79Kw26ZmrJR4HcAU7b0aOEeu2pHSl4MGGVMlG7Dt4Ccc0XGGIpTLbL4I9jApKJRQ5jNTDz76tMIgPZs-l3vd20QwhEPuTjSL5Or_nkXLVUyA0BJHXSar_2d_5yMsCROqhKzi7LkMIc46g0iShta8GPPXxwW-U8HXxsQ224wnVVHv4RKGz9rg6TeWLX9G0R9ajOmQnGQBQISk4yxYszSvsAKnAE8lt0Imu5gPdVcHyFbYl_DuHu5xGP0JwzL9gr2pR3w_L0Klh4PuiQABHyJhJY3MEgv0oTqd0UTw",
        "invalid_signature",
    ),
    (
        "02 instead of 01 before the salt",
        "RFC 8017 9.1.2",
        "PS256",
        "fixed",
        "iXVLOpKEo7VHyi2nfbD-Iwo2pZKw0wK1UzXhVeQYvlrE6CahvXmzwger0BNgz0DK9xmkCJv4aDnOPHpcMQj3FF7_4L8bPsV--QhQIfO6fh7YHqbdzxLQKI0IOSMCanwnNIaZrgLOGbWPTImjaXueyR_J45vJ-k6KbjKGb9IKw4tciLNa5yRlR8cgnWNdBLAi--9aFqEKQmwgOI-R-zQchUQQey0eAzGyvCON1jChCh452J1THRndi18RQfhu5ZjxD18sWjPSMHRWi8blOdT77OHbyoz0fAzU8ZbX3R1uha-H1bbJ34FcCUbAwYcwRBON20kNHkKpSYfheDBd4fFOOw",
        "invalid_signature",
    ),
    (
        "the cube root of a short padding",
        "RFC 8017 9.2",
        "RS256",
        "three",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAMsv9SnrceQVYPXZ1IPUWQHWRdtN4JvLvY649x6jMOENQJX3F8d5H7mRJtmisNmC46LXE-3aLNJJlvVWWrxfcbiX3AIn7VuiAe7wK7vhg_qZ5AlUO6A",
        "invalid_signature",
    ),
    (
        "the padding itself, for the exponent 1",
        "RFC 8725 3.5",
        "RS256",
        "one",
        "AAH_____________________________________________________________________________________________________________________________________________________________________________________________________________________________________________________________________________ADAxMA0GCWCGSAFlAwQCAQUABCBoQAbs3iji1TMbxCwWz14ZsjT0awrEFTPeS0C5eOp0hg",
        "weak_key",
    ),
    (
        "correctly signed with 1024 bits",
        "RFC 7518 3.3",
        "RS256",
        "small",
        "HQAV-aiqKyoPwhd5aBR9ELAAkRegarmWojneVoccoXYquqOXZFLEphaTVscxbRepztlsaxqbtqFfx6bIJjRb0jFXNFyXuDfYVK3bqYFn3_fVi5jNuW2VVKmbG5T5nfEnDexof3jMa7rtGgv2XLOxJR4uyUPtqwMkHqiXnSryci8",
        "weak_key",
    ),
];
